/* What a replica meets that nobody can do to one process of a machine: a clock that is wrong, and targets that it cannot
   reach. Each begins when its file appears and ends when it goes. Loaded into the server by LD_PRELOAD. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static int is_there(const char *variable)
{
    const char *file = getenv(variable);
    return file && access(file, F_OK) == 0;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) && is_there("WEATHER_SKEWED"))
        now->tv_sec += atol(getenv("WEATHER_SECONDS"));
    return result;
}

int connect(int socket, const struct sockaddr *address, socklen_t length)
{
    static int (*real)(int, const struct sockaddr *, socklen_t);
    if (!real)
        real = (int (*)(int, const struct sockaddr *, socklen_t))dlsym(RTLD_NEXT, "connect");
    if (address->sa_family == AF_INET && is_there("WEATHER_CUT_OFF")
        && ntohs(((const struct sockaddr_in *)address)->sin_port) == atoi(getenv("WEATHER_PORT"))) {
        errno = EHOSTUNREACH;
        return -1;
    }
    return real(socket, address, length);
}
