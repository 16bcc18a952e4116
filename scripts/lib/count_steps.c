/* Counts the instructions of a process in user mode, by single steps: ptrace(2).
 *
 * count_steps PID: attaches, writes a line, and steps until its standard input ends. Then it lets the
 * process go, and writes each address that was executed and how often. Counts nothing of the kernel. */

#ifndef __x86_64__
#error "count_steps.c reads the instruction pointer of x86-64: count there"
#endif

#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define SLOTS (1u << 20)
static struct { uint64_t address, count; } seen[SLOTS];
static volatile sig_atomic_t is_over;

static void on_signal(int number) {
    (void)number;
    is_over = 1;
}

static void note(uint64_t address) {
    uint32_t at = (uint32_t)(address * 0x9E3779B97F4A7C15u >> 44);
    while (seen[at].count && seen[at].address != address)
        at = (at + 1) % SLOTS;
    seen[at].address = address;
    seen[at].count++;
}

static int step(pid_t pid) {
    int status;
    uint64_t address;
    if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) != 0)
        return -1;
    while (waitpid(pid, &status, __WALL) < 0)
        if (errno != EINTR || is_over)
            return -1;
    if (!WIFSTOPPED(status))
        return -1;
    errno = 0;
    address = (uint64_t)ptrace(PTRACE_PEEKUSER, pid, (void *)offsetof(struct user_regs_struct, rip), NULL);
    if (errno == 0)
        note(address);
    return 0;
}

int main(int count, char **arguments) {
    struct sigaction action = {.sa_handler = on_signal};
    pid_t pid = count == 2 ? (pid_t)atol(arguments[1]) : 0;
    int status;
    /* Without SA_RESTART: it ends the wait for a process that waits itself. */
    sigaction(SIGTERM, &action, NULL);
    if (pid <= 0 || ptrace(PTRACE_ATTACH, pid, NULL, NULL) != 0 || waitpid(pid, &status, __WALL) < 0) {
        perror("count_steps");
        return 1;
    }
    puts("attached");
    fflush(stdout);
    while (!is_over && step(pid) == 0) {
    }
    for (uint32_t at = 0; at < SLOTS; at++)
        if (seen[at].count)
            printf("%llx %llu\n", (unsigned long long)seen[at].address, (unsigned long long)seen[at].count);
    return 0;
}
