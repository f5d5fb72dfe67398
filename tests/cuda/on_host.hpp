// Enough of CUDA C++ for a C++ compiler: a block is a crew of coroutines that take turns at __syncthreads(), blocks run one by
// one.
#include <cmath>
#include <functional>
#include <ucontext.h>
#include <vector>

struct Index { int x, y; };
static Index threadIdx, blockIdx;
static ucontext_t* turn = nullptr;  // whose it is; nobody's where every thread goes its own way
static ucontext_t foreman;

#define __global__
#define __device__
#define __shared__ static

static void __syncthreads() {
    if (!turn) return;
    Index thread = threadIdx, block = blockIdx;
    swapcontext(turn, &foreman);
    threadIdx = thread, blockIdx = block;
}
template <class T> static T atomicAdd(T* at, T value) { T before = *at; *at += value; return before; }

#include "kernels.cu"

template <class Kernel> static void each_block(int across, int down, Kernel kernel) {
    for (blockIdx.y = 0; blockIdx.y < down; ++blockIdx.y)
        for (blockIdx.x = 0; blockIdx.x < across; ++blockIdx.x) kernel();
}

// For kernels that meet, all threads equally often: so all of them end in the same round.
template <class Kernel> static void launch(int across, int down, Kernel kernel) {
    constexpr int count = BLOCK_WIDTH * BLOCK_HEIGHT, stack = 1 << 16;
    static std::vector<char> stacks(count * stack);
    static std::function<void()> work;
    static int working;
    work = [&] { each_block(across, down, [&] { kernel(); __syncthreads(); }); --working; };
    std::vector<ucontext_t> crew(count);
    for (int i = 0; i < count; ++i) {
        getcontext(&crew[i]);
        crew[i].uc_stack.ss_sp = &stacks[i * stack];
        crew[i].uc_stack.ss_size = stack;
        crew[i].uc_link = &foreman;
        makecontext(&crew[i], [] { work(); }, 0);
    }
    for (working = count; working > 0;)
        for (int i = 0; i < count; ++i) {
            turn = &crew[i];
            threadIdx = {i % BLOCK_WIDTH, i / BLOCK_WIDTH};
            swapcontext(&foreman, turn);
        }
    turn = nullptr;
}

// For kernels in which every thread goes its own way.
template <class Kernel> static void launch_alone(int across, int down, int width, int height, Kernel kernel) {
    for (int y = 0; y < height; ++y)
        for (int x = 0; x < width; ++x) {
            threadIdx = {x, y};
            each_block(across, down, kernel);
        }
}

extern "C" void host_prepare(int across, int down, const u8* visible, int channels, const void* thermal, int thermal_bytes,
                             int thermal_width, int thermal_height, const u8* levels, const float* source_x,
                             const float* source_y, int width, int height, int padded_width, int padded_height,
                             float* visible_y, float* thermal_y, u8* registered, u64* sums) {
    launch(across, down, [&] {
        prepare(visible, channels, thermal, thermal_bytes, thermal_width, thermal_height, levels, source_x, source_y, width,
                height, padded_width, padded_height, visible_y, thermal_y, registered, sums);
    });
}

extern "C" void host_scene(int across, int down, const float* wanted, const int* mean_of, int count, int pixels, u64* sums,
                           float* means, float* scalars) {
    launch_alone(across, down, 1, 1, [&] { scene(wanted, mean_of, count, pixels, sums, means, scalars); });
}

extern "C" void host_compose(int across, int down, const u8* visible, int channels, const float* fused_y,
                             const float* inside, int width, int height, int padded_width, u8* image) {
    launch_alone(across, down, BLOCK_WIDTH, BLOCK_HEIGHT,
                 [&] { compose(visible, channels, fused_y, inside, width, height, padded_width, image); });
}
