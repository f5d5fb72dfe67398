// Enough of CUDA C++ for a C++20 compiler: a block is a crew of threads that meet at __syncthreads(), blocks run one by one.
#include <barrier>
#include <cmath>
#include <thread>
#include <vector>

struct Index { int x, y; };
static thread_local Index threadIdx, blockIdx;
static std::barrier<>* crew = nullptr;

#define __global__
#define __device__
#define __shared__ static

static void __syncthreads() { if (crew) crew->arrive_and_wait(); }
template <class T> static T atomicAdd(T* at, T value) { return __atomic_fetch_add(at, value, __ATOMIC_SEQ_CST); }

#include "kernels.cu"

template <class Kernel> static void each_block(int across, int down, Kernel kernel) {
    for (blockIdx.y = 0; blockIdx.y < down; ++blockIdx.y)
        for (blockIdx.x = 0; blockIdx.x < across; ++blockIdx.x) kernel();
}

// For kernels that meet.
template <class Kernel> static void launch(int across, int down, Kernel kernel) {
    std::barrier<> barrier(BLOCK_WIDTH * BLOCK_HEIGHT);
    crew = &barrier;
    std::vector<std::thread> threads;
    for (int i = 0; i < BLOCK_WIDTH * BLOCK_HEIGHT; ++i)
        threads.emplace_back([&, i] {
            threadIdx = {i % BLOCK_WIDTH, i / BLOCK_WIDTH};
            each_block(across, down, [&] { kernel(); __syncthreads(); });
        });
    for (auto& thread : threads) thread.join();
    crew = nullptr;
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
