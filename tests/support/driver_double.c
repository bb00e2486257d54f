/* A CUDA driver without a GPU, for the calls that deploy/runtime/cuda.py makes through PyCUDA.
 *
 * "Device" memory is the process's own. What is asynchronous happens only when somebody waits, in the stream's order:
 * memory that is freed or changed too early shows. Everything alive is counted; a call without a current context, or
 * with a pointer that nobody gave out, fails as it does in the real driver.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { INVALID_VALUE = 1, NO_DEVICE = 100, INVALID_CONTEXT = 201, DEEPEST = 64 };
enum { DEVICE, HOST };

struct block { char *start; size_t size; int kind; struct block *next; };
struct work { void (*call)(void *); void *data; char *to, *from; size_t size; struct work *next; };

/* Read by the tests: counts of what is alive. */
int double_contexts, double_depth, double_streams, double_events, double_modules, double_blocks[2], double_queued;
/* Set by the tests. */
int double_no_device, double_fail_allocation;
void (*double_launched)(unsigned blocks, unsigned threads, unsigned shared, const void *arguments, size_t size);

static int context, module, function, event;
static struct block *blocks;
static struct work *first, **last = &first;

static int ready(void) { return double_depth > 0 ? 0 : INVALID_CONTEXT; }

static struct block **find(const void *pointer, int kind) {
    struct block **each = &blocks;
    while (*each && !((*each)->kind == kind && (char *)pointer >= (*each)->start &&
                      (char *)pointer < (*each)->start + (*each)->size)) each = &(*each)->next;
    return each;
}

static int allocate(void **pointer, size_t size, int kind) {
    if (ready()) return ready();
    if (double_fail_allocation == 1) return 2; /* out of memory, from now on: PyCUDA collects garbage and tries again */
    if (double_fail_allocation) double_fail_allocation--;
    struct block *new = malloc(sizeof *new);
    *new = (struct block){aligned_alloc(256, (size + 255) / 256 * 256), size, kind, blocks};
    memset(new->start, 0xa5, size);
    blocks = new;
    double_blocks[kind]++;
    *pointer = new->start;
    return 0;
}

static int release(void *pointer, int kind) {
    struct block **place = find(pointer, kind), *old = *place;
    if (ready()) return ready();
    if (!old || old->start != (char *)pointer) return INVALID_VALUE;
    *place = old->next;
    memset(old->start, 0x5a, old->size);
    free(old->start);
    free(old);
    double_blocks[kind]--;
    return 0;
}

static void queue(struct work work) {
    *last = malloc(sizeof work);
    **last = work;
    last = &(*last)->next;
    double_queued++;
}

/* For a double of TensorRT: work in the stream's order. */
void double_enqueue(void (*call)(void *), void *data) { queue((struct work){call, data, 0, 0, 0, 0}); }

static int finish(void) {
    while (first) {
        struct work *done = first;
        if (done->call) done->call(done->data);
        else memcpy(done->to, done->from, done->size);
        if (!done->call && done->data) free(done->data);
        first = done->next;
        free(done);
        double_queued--;
    }
    last = &first;
    return ready();
}

static int copy(char *to, char *from, size_t size, char *device) {
    struct block *block = *find(device, DEVICE);
    if (ready()) return ready();
    if (size && (!block || device + size > block->start + block->size)) return INVALID_VALUE;
    char *pageable = from != device && !*find(from, HOST) ? memcpy(malloc(size + 1), from, size) : 0;
    queue((struct work){0, pageable, to, pageable ? pageable : from, size, 0});
    return 0;
}

struct launch { unsigned blocks, threads, shared; size_t size; char arguments[]; };

static void run_launch(void *data) {
    struct launch *each = data;
    if (double_launched) double_launched(each->blocks, each->threads, each->shared, each->arguments, each->size);
    free(each);
}

int cuInit(unsigned flags) { return flags == 0 && !double_no_device ? 0 : NO_DEVICE; }
int cuDriverGetVersion(int *version) { return *version = 13000, 0; }
int cuGetErrorString(int code, const char **text) {
    *text = code == 2 ? "out of memory" : code == NO_DEVICE ? "no CUDA-capable device is detected" : "invalid";
    return 0;
}
int cuDeviceGet(int *device, int ordinal) { return *device = 0, ordinal == 0 ? 0 : 101; }
int cuDeviceGetCount(int *count) { return *count = 1, 0; }
int cuDeviceGetName(char *name, int room, int device) { return strncpy(name, "Double", room), device; }
int cuDeviceComputeCapability(int *major, int *minor, int device) { return *major = 8, *minor = 7, device; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    return *value = attribute == 75 ? 8 : attribute == 76 ? 7 : 0, device;
}
int cuDevicePrimaryCtxRetain(void **given, int device) { return double_contexts++, *given = &context, device; }
int cuDevicePrimaryCtxRelease_v2(int device) { return double_contexts-- > 0 ? device : INVALID_CONTEXT; }
int cuCtxPushCurrent_v2(void *given) {
    return given == &context && double_depth < DEEPEST ? double_depth++, 0 : INVALID_CONTEXT;
}
int cuCtxPopCurrent_v2(void **given) { return *given = &context, double_depth > 0 ? double_depth--, 0 : INVALID_CONTEXT; }
int cuCtxGetDevice(int *device) { return *device = 0, ready(); }
int cuCtxSynchronize(void) { return finish(); }
int cuStreamCreate(void **stream, unsigned flags) { return *stream = &last, ready() ? ready() : (double_streams++, (int)flags); }
int cuStreamDestroy_v2(void *stream) { return ready() || stream != &last ? INVALID_VALUE : (double_streams--, 0); }
int cuStreamSynchronize(void *stream) { return stream ? finish() : INVALID_VALUE; }
int cuEventCreate(void **given, unsigned flags) {
    return *given = &event, ready() || flags != 3 ? INVALID_VALUE : (double_events++, 0); /* waits, has no time */
}
int cuEventDestroy_v2(void *given) { return ready() || given != &event ? INVALID_VALUE : (double_events--, 0); }
int cuEventRecord(void *given, void *stream) { return given == &event && stream == &last ? ready() : INVALID_VALUE; }
int cuEventSynchronize(void *given) { return given == &event ? finish() : INVALID_VALUE; }
int cuMemAlloc_v2(uintptr_t *pointer, size_t size) { return allocate((void **)pointer, size, DEVICE); }
int cuMemFree_v2(uintptr_t pointer) { return finish() ? INVALID_CONTEXT : release((void *)pointer, DEVICE); }
int cuMemHostAlloc(void **pointer, size_t size, unsigned flags) { return flags ? INVALID_VALUE : allocate(pointer, size, HOST); }
int cuMemFreeHost(void *pointer) { return finish() ? INVALID_CONTEXT : release(pointer, HOST); }
int cuMemcpyHtoDAsync_v2(uintptr_t to, void *from, size_t size, void *stream) {
    return stream == &last ? copy((char *)to, from, size, (char *)to) : INVALID_VALUE;
}
int cuMemcpyDtoHAsync_v2(void *to, uintptr_t from, size_t size, void *stream) {
    return stream == &last ? copy(to, (char *)from, size, (char *)from) : INVALID_VALUE;
}
int cuModuleLoadDataEx(void **given, const void *image, unsigned count, int *options, void **values) {
    for (unsigned each = 0; each < count; each++)
        if (options[each] == 4 || options[each] == 6) values[each] = 0; /* bytes in the logs */
    if (ready() || memcmp(image, "\177ELF", 4)) return ready() ? ready() : 200; /* invalid image */
    return *given = &module, double_modules++, 0;
}
int cuModuleUnload(void *given) { return ready() || given != &module ? INVALID_VALUE : (double_modules--, 0); }
int cuModuleGetFunction(void **given, void *from, const char *name) {
    return *given = &function, from == &module && *name ? ready() : INVALID_VALUE;
}
int cuFuncSetAttribute(void *given, int attribute, int value) {
    return given == &function && attribute == 8 && value >= 0 ? ready() : INVALID_VALUE; /* dynamic shared memory */
}
int cuFuncSetBlockShape(void *given, int x, int y, int z) {
    return given == &function && x > 0 && y == 1 && z == 1 ? ready() : INVALID_VALUE;
}
int cuLaunchKernel(void *given, unsigned x, unsigned y, unsigned z, unsigned block_x, unsigned block_y, unsigned block_z,
                   unsigned shared, void *stream, void **arguments, void **extra) {
    if (ready() || given != &function || stream != &last || arguments || y * z * block_y * block_z != 1)
        return INVALID_VALUE;
    size_t size = *(size_t *)extra[3]; /* [BUFFER_POINTER, buffer, BUFFER_SIZE, &size, END] */
    struct launch *each = malloc(sizeof *each + size);
    *each = (struct launch){x, block_x, shared, size};
    memcpy(each->arguments, extra[1], size);
    double_enqueue(run_launch, each);
    return 0;
}
