/* A machine that ails as the environment says, loaded before the C library: tests of `tallyd doctor`.
 *
 *   AILING_CLOCK=unsynchronised   adjtimex says that nobody keeps the clock (otherwise: that it is kept)
 *   AILING_YEAR=2000              the wall clock stands at 946684800
 *   AILING_SYNC_MS=150            each fdatasync takes that long (otherwise: no time, whatever the disk is doing)
 *   AILING_DISK=full              writes of 4 KiB and more find no room; shorter ones, such as a report's lines, do
 *   AILING_BIND=denied            no socket may be bound
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

int adjtimex(struct timex *state) {
  const char *clock = getenv("AILING_CLOCK");
  int ails = clock != NULL && strcmp(clock, "unsynchronised") == 0;
  state->status = ails ? STA_UNSYNC : 0;
  return ails ? TIME_ERROR : TIME_OK;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
  if (clock == CLOCK_REALTIME && getenv("AILING_YEAR") != NULL) {
    time->tv_sec = 946684800;
    time->tv_nsec = 0;
    return 0;
  }
  return (int)syscall(SYS_clock_gettime, clock, time);
}

int fdatasync(int fd) {
  const char *ms = getenv("AILING_SYNC_MS");
  if (ms != NULL) {
    usleep((useconds_t)atoi(ms) * 1000);
  }
  (void)fd;
  return 0;
}

ssize_t write(int fd, const void *bytes, size_t length) {
  if (length >= 4096 && getenv("AILING_DISK") != NULL) {
    errno = ENOSPC;
    return -1;
  }
  return syscall(SYS_write, fd, bytes, length);
}

int bind(int fd, const struct sockaddr *address, socklen_t length) {
  if (getenv("AILING_BIND") != NULL) {
    errno = EACCES;
    return -1;
  }
  return (int)syscall(SYS_bind, fd, address, length);
}
