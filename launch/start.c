#include "start.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

void sky_start_descriptors(void)
{
    for (int fd = 0; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF && open("/dev/null", O_RDWR) != fd) {
            abort(); /* nowhere to say why */
        }
    }
}

void sky_start_signals(void (*handler)(int signal))
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) {
        struct sigaction old;
        const struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
        if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN) {
            (void)sigaction(signals[i], &action, NULL);
        }
    }
    (void)signal(SIGXFSZ, SIG_IGN);
}

void sky_start_on_signal(int number)
{
    const int error = errno;
    sky_output_files_abandon();
    (void)signal(number, SIG_DFL);
    (void)raise(number);
    errno = error;
}
