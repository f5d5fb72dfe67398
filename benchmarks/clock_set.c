/* The time of day of a process, off by what a file says: 8 bytes, nanoseconds; clocks that only go forward are left alone.
 * Preloaded by benchmarks/chaos.py. libfaketime 0.9.10 breaks clock_nanosleep where it leaves the monotonic clock alone. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *off_ns;

__attribute__((constructor)) static void map(void) {
    const char *path = getenv("CLOCK_SET");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *found = mmap(NULL, sizeof *off_ns, PROT_READ, MAP_SHARED, file, 0);
    if (found != MAP_FAILED) off_ns = found;
    close(file);
}

int clock_gettime(clockid_t id, struct timespec *now) {
    long failed = syscall(SYS_clock_gettime, id, now);
    if (failed || !off_ns || (id != CLOCK_REALTIME && id != CLOCK_REALTIME_COARSE)) return (int)failed;
    int64_t ns = now->tv_nsec + *off_ns % 1000000000 + 1000000000;
    now->tv_sec += *off_ns / 1000000000 + ns / 1000000000 - 1;
    now->tv_nsec = ns % 1000000000;
    return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &exact)) return -1;
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (now) *now = exact.tv_sec;
    return exact.tv_sec;
}
