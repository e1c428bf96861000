"""The other side of agent_loop.py: what a careful person writes with cv2 and LiteRT. Prints seconds per frame.

argv: int8 model, list of image paths (a file), height, width, "rgb raw pixels" is assumed: code = pixel - 128
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import cv2
from ai_edge_litert.interpreter import Interpreter

model, names, height, width = sys.argv[1], Path(sys.argv[2]).read_text().split("\n"), int(sys.argv[3]), int(sys.argv[4])
interpreter = Interpreter(model_path=model, num_threads=1)
interpreter.allocate_tensors()
given, told = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
dtype, index, answer = given["dtype"], given["index"], told["index"]
signed = dtype.__name__ == "int8"
times = []
results = []
for name in names:
    began = time.perf_counter_ns()
    frame = cv2.imread(name, cv2.IMREAD_COLOR)
    h, w = frame.shape[:2]
    while h >= 2 * height and w >= 2 * width:  # as edgeloop does it: area averaging would take most of the time
        h, w = h // 2, w // 2
        frame = cv2.resize(frame, (w, h))
    if (h, w) != (height, width):
        frame = cv2.resize(frame, (width, height))
    frame = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    codes = (frame ^ 0x80).view(dtype) if signed else frame
    interpreter.set_tensor(index, codes[None])
    interpreter.invoke()
    results.append(int(interpreter.get_tensor(answer)[0].argmax()))
    times.append(time.perf_counter_ns() - began)
print(sum(times) / len(times) * 1e-9)
