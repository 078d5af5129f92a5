/* A wall clock that jumps, loaded before the C library: JUMPING_CLOCK names a file of eight bytes, the nanoseconds by
 * which the clock is ahead (less than nothing: behind), in this machine's order. Whoever writes them sets the clock.
 * The monotonic clock is left alone. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *ahead;

__attribute__((constructor)) static void find_the_file(void) {
  const char *path = getenv("JUMPING_CLOCK");
  int fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    return;
  }
  void *bytes = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);
  if (bytes != MAP_FAILED) {
    ahead = bytes;
  }
  close(fd);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  long done = syscall(SYS_clock_gettime, clock, now);
  if (done == 0 && ahead != NULL && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
    int64_t at = (int64_t)now->tv_sec * 1000000000 + now->tv_nsec + *ahead;
    now->tv_sec = at / 1000000000;
    now->tv_nsec = at % 1000000000;
  }
  return (int)done;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  (void)zone;
  struct timespec precise;
  int done = clock_gettime(CLOCK_REALTIME, &precise);
  now->tv_sec = precise.tv_sec;
  now->tv_usec = precise.tv_nsec / 1000;
  return done;
}

time_t time(time_t *into) {
  struct timespec precise;
  clock_gettime(CLOCK_REALTIME, &precise);
  if (into != NULL) {
    *into = precise.tv_sec;
  }
  return precise.tv_sec;
}
