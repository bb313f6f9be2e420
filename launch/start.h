/*
 * launch/start.h - what a program does before anything else
 */
#ifndef SKY_LAUNCH_START_H
#define SKY_LAUNCH_START_H

/*
 * Standard descriptors that are closed (as under cron and some daemons) become /dev/null: else the next file that is opened
 * is standard error, and gets what is meant for the terminal.
 */
void sky_start_descriptors(void);

/*
 * Calls handler for SIGINT, SIGTERM and SIGHUP, but not for one that is ignored: under nohup, or in the background of a script, it
 * was ignored so that it does not end the program. SIGXFSZ is ignored: a limit on file sizes is an error of write().
 */
void sky_start_signals(void (*handler)(int signal));

/* A handler that removes temporary names (base/file.h) and then ends the program by the same signal. */
void sky_start_on_signal(int signal);

#endif
