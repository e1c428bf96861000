// A TFLite external delegate for tests: claims the ops it is told to and misbehaves on request.
//
// The part of TFLite's C ABI that it needs (tflite/core/c/common.h, unchanged from 2.14 to LiteRT 2.3) is declared by
// hand, so that gcc alone builds it. Options, as in "external:libxdelegate.so?claim_op=22&fail_invoke=1":
//
//   claim_op=N         claim builtin op N. Computed: ADD (0) and RESHAPE (22); outputs of others: all 7
//   claim_custom=NAME  claim custom op NAME; its outputs are filled with 7
//   device=none        creation fails with a message, like a driver without its device
//   crash_create=1     SIGSEGV while it is created        hang_create=1   never comes back from there
//   fail_prepare=1     refuse the graph                   fail_kernel=1   refuse when the kernel is prepared
//   after=N            what follows only begins after N good invokes
//   fail_invoke=1      invoke returns an error            crash_invoke=1  invoke gets SIGSEGV
//   hang_invoke=1      invoke never returns               ill_invoke=1    invoke meets an illegal instruction
//   leak_mib=N         each invoke leaks N MiB            wrong=1         outputs are filled with 7
//   lock=FILE          one process at a time, as on an accelerator: creation fails while another one has it

#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

// ---- TFLite's ABI ----

enum { kOk = 0, kError = 1, kDelegateError = 2 };
enum { kFloat32 = 1, kUInt8 = 3, kInt8 = 9 };
enum { kAdd = 0, kReshape = 22, kBuiltinDelegate = 51 };
enum { kFlagAllowDynamicTensors = 1 };  // Prepare runs before TFLite looks for the kernels of custom ops
enum { kActivationRelu = 1 };

typedef struct { int size; int data[]; } IntArray;
typedef struct Context Context;
typedef struct Delegate Delegate;
typedef struct Node Node;
typedef struct Registration Registration;

typedef struct {
  int type;
  void *data;
  IntArray *dims;
  struct { float scale; int32_t zero_point; } params;
  int allocation_type;
  size_t bytes;
  const void *allocation;
  const char *name;
  Delegate *delegate;
  int buffer_handle;
  char data_is_stale, is_variable;
  struct { int type; void *params; } quantization;
  void *sparsity;
  const IntArray *dims_signature;
} Tensor;

struct Node {
  IntArray *inputs, *outputs, *intermediates, *temporaries;
  void *user_data, *builtin_data;
  const void *custom_data;
  int custom_data_size;
  Delegate *delegate;
  char might_have_side_effect;
};

struct Registration {
  void *(*init)(Context *, const char *, size_t);
  void (*free)(Context *, void *);
  int (*prepare)(Context *, Node *);
  int (*invoke)(Context *, Node *);
  const char *(*profiling_string)(const Context *, const Node *);
  int32_t builtin_code;
  const char *custom_name;
  int version;
  void *external, *async_kernel;
  uint64_t inplace_operator;
};

struct Context {
  size_t tensors_size;
  int (*GetExecutionPlan)(Context *, IntArray **);
  Tensor *tensors;
  void *impl;
  int (*ResizeTensor)(Context *, Tensor *, IntArray *);
  void (*ReportError)(Context *, const char *, ...);
  int (*AddTensors)(Context *, int, int *);
  int (*GetNodeAndRegistration)(Context *, int, Node **, Registration **);
  int (*ReplaceNodeSubsets)(Context *, Registration, const IntArray *, Delegate *);
};

struct Delegate {
  void *data;
  int (*Prepare)(Context *, Delegate *);
  void *copy_from, *copy_to, *free_buffer;
  int64_t flags;
  void *opaque_builder;
};

typedef struct { Delegate *delegate; IntArray *nodes, *inputs, *outputs; } DelegateParams;  // what init() is given

// ---- the delegate ----

typedef struct {
  Delegate base;  // first: a Delegate* of ours is an XDelegate*
  int claim_op, after, invokes;
  int fail_prepare, fail_kernel, crash_create, hang_create;
  int fail_invoke, crash_invoke, ill_invoke, hang_invoke, leak_mib, wrong;
  char claim_custom[64];
  int lock_fd;
} XDelegate;

typedef struct { int op, in_a, in_b, out, relu; } Step;
typedef struct { XDelegate *delegate; int count; Step steps[]; } Kernel;

static void hang(void) {
  for (;;) pause();
}

static void illegal_instruction(void) {
#if defined(__x86_64__)
  __asm__ volatile("ud2");
#elif defined(__aarch64__)
  __asm__ volatile(".inst 0");
#else
  raise(SIGILL);
#endif
}

static void leak(size_t mib) {
  static char *volatile kept;
  kept = malloc(mib << 20);
  if (kept) memset(kept, 1, mib << 20);
}

static void add(const Tensor *a, const Tensor *b, Tensor *out, int relu) {
  if (out->type == kFloat32) {
    for (size_t i = 0; i < out->bytes / sizeof(float); i++) {
      float sum = ((float *)a->data)[i] + ((float *)b->data)[i];
      ((float *)out->data)[i] = relu && sum < 0 ? 0 : sum;
    }
    return;
  }
  int is_unsigned = out->type == kUInt8, low = is_unsigned ? 0 : -128, high = is_unsigned ? 255 : 127;
  for (size_t i = 0; i < out->bytes; i++) {
    float x = is_unsigned ? ((uint8_t *)a->data)[i] : ((int8_t *)a->data)[i];
    float y = is_unsigned ? ((uint8_t *)b->data)[i] : ((int8_t *)b->data)[i];
    float sum = (x - a->params.zero_point) * a->params.scale + (y - b->params.zero_point) * b->params.scale;
    if (relu && sum < 0) sum = 0;
    int code = (int)roundf(sum / out->params.scale) + out->params.zero_point;
    ((uint8_t *)out->data)[i] = (uint8_t)(code < low ? low : code > high ? high : code);
  }
}

static void *kernel_init(Context *context, const char *buffer, size_t length) {
  (void)length;
  const DelegateParams *params = (const DelegateParams *)buffer;
  int count = params->nodes->size;
  Kernel *kernel = calloc(1, sizeof(Kernel) + (size_t)count * sizeof(Step));
  kernel->delegate = (XDelegate *)params->delegate;
  kernel->count = count;
  for (int i = 0; i < count; i++) {
    Node *node;
    Registration *registration;
    context->GetNodeAndRegistration(context, params->nodes->data[i], &node, &registration);
    Step *step = &kernel->steps[i];
    step->op = registration->builtin_code;
    step->in_a = node->inputs->data[0];
    step->in_b = node->inputs->size > 1 ? node->inputs->data[1] : -1;
    step->out = node->outputs->data[0];
    step->relu = step->op == kAdd && node->builtin_data && *(int *)node->builtin_data == kActivationRelu;
  }
  return kernel;
}

static void kernel_free(Context *context, void *kernel) {
  (void)context;
  free(kernel);
}

static int kernel_prepare(Context *context, Node *node) {
  Kernel *kernel = node->user_data;
  if (!kernel->delegate->fail_kernel) return kOk;
  context->ReportError(context, "xdelegate: kernel refused by option");
  return kError;
}

static int kernel_invoke(Context *context, Node *node) {
  Kernel *kernel = node->user_data;
  XDelegate *x = kernel->delegate;
  int misbehave = x->invokes++ >= x->after;
  if (misbehave && x->crash_invoke) raise(SIGSEGV);
  if (misbehave && x->ill_invoke) illegal_instruction();
  if (misbehave && x->hang_invoke) hang();
  if (misbehave && x->leak_mib) leak((size_t)x->leak_mib);
  if (misbehave && x->fail_invoke) {
    context->ReportError(context, "xdelegate: device lost");
    return kDelegateError;
  }
  for (int i = 0; i < kernel->count; i++) {
    const Step *step = &kernel->steps[i];
    const Tensor *a = &context->tensors[step->in_a];
    Tensor *out = &context->tensors[step->out];
    if (!out->data) continue;  // between two claimed ops: TFLite gives such a tensor no memory
    int computed = a->data && (step->op == kAdd || step->op == kReshape);
    if (!computed || (misbehave && x->wrong))
      memset(out->data, 7, out->bytes);
    else if (step->op == kAdd)
      add(a, &context->tensors[step->in_b], out, step->relu);
    else
      memcpy(out->data, a->data, out->bytes);
  }
  return kOk;
}

static int prepare(Context *context, Delegate *base) {
  XDelegate *x = (XDelegate *)base;
  IntArray *plan;
  if (context->GetExecutionPlan(context, &plan) != kOk) return kError;
  if (x->fail_prepare) {
    context->ReportError(context, "xdelegate: graph refused by option");
    return kDelegateError;
  }
  IntArray *picked = malloc(sizeof(IntArray) + sizeof(int) * (size_t)plan->size);
  picked->size = 0;
  for (int i = 0; i < plan->size; i++) {
    Node *node;
    Registration *op;
    if (context->GetNodeAndRegistration(context, plan->data[i], &node, &op) != kOk) continue;
    int by_code = x->claim_op >= 0 && op->builtin_code == x->claim_op;
    int by_name = x->claim_custom[0] && op->custom_name && !strcmp(op->custom_name, x->claim_custom);
    if (by_code || by_name) picked->data[picked->size++] = plan->data[i];
  }
  int status = kOk;
  if (picked->size) {
    Registration kernel = {.init = kernel_init, .free = kernel_free, .prepare = kernel_prepare,
                           .invoke = kernel_invoke, .builtin_code = kBuiltinDelegate,
                           .custom_name = "XDelegate", .version = 1};
    status = context->ReplaceNodeSubsets(context, kernel, picked, base);
  }
  free(picked);
  return status;
}

static int set_option(XDelegate *x, const char *key, const char *value, void (*report)(const char *)) {
  struct { const char *name; int *slot; } numbers[] = {
      {"claim_op", &x->claim_op},         {"after", &x->after},
      {"fail_prepare", &x->fail_prepare}, {"fail_kernel", &x->fail_kernel},
      {"fail_invoke", &x->fail_invoke},   {"crash_invoke", &x->crash_invoke},
      {"ill_invoke", &x->ill_invoke},     {"hang_invoke", &x->hang_invoke},
      {"leak_mib", &x->leak_mib},         {"wrong", &x->wrong},
      {"crash_create", &x->crash_create}, {"hang_create", &x->hang_create},
  };
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
    if (!strcmp(key, numbers[i].name)) return *numbers[i].slot = atoi(value), 1;
  if (!strcmp(key, "claim_custom"))
    return snprintf(x->claim_custom, sizeof x->claim_custom, "%s", value), 1;
  char text[160];
  if (!strcmp(key, "lock")) {
    x->lock_fd = open(value, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (x->lock_fd >= 0 && !flock(x->lock_fd, LOCK_EX | LOCK_NB)) return 1;
    snprintf(text, sizeof text, "xdelegate: another process has the device");
  } else if (!strcmp(key, "device"))
    snprintf(text, sizeof text, "xdelegate: no device %s", value);
  else
    snprintf(text, sizeof text, "xdelegate: unknown option %s=%s", key, value);
  if (report) report(text);
  return 0;
}

void tflite_plugin_destroy_delegate(Delegate *delegate);

Delegate *tflite_plugin_create_delegate(char **keys, char **values, size_t count, void (*report)(const char *)) {
  XDelegate *x = calloc(1, sizeof *x);
  x->claim_op = -1;
  x->lock_fd = -1;
  x->base.data = x;
  x->base.Prepare = prepare;
  x->base.flags = kFlagAllowDynamicTensors;
  for (size_t i = 0; i < count; i++) {
    if (set_option(x, keys[i], values[i], report)) continue;
    tflite_plugin_destroy_delegate(&x->base);
    return NULL;
  }
  if (x->crash_create) raise(SIGSEGV);
  if (x->hang_create) hang();
  return &x->base;
}

void tflite_plugin_destroy_delegate(Delegate *delegate) {
  XDelegate *x = (XDelegate *)delegate;
  if (x->lock_fd >= 0) close(x->lock_fd);
  free(x);
}
