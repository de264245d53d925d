// Finds the functions for used.txt: runs a program with a breakpoint at each function that goes away when it is first reached, so that even a
// loaded proxy is hardly slowed down. For whoever renews the list; nothing that ships is built of it.
//
//   cc -O2 -o /tmp/used .cargo/used.c
//   readelf -sW PROGRAM | awk '$4 == "FUNC" && $3 > 0 { print $2 }' | sort -u > /tmp/functions    (PROGRAM linked without -Wl,--strip-all)
//   /tmp/used /tmp/reached /tmp/functions PROGRAM ARGUMENTS...                                    (writes /tmp/reached.PID: ms, address)
//
// x86-64; the program is static and at a fixed address, as `cargo dist` makes it.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 200000 };
static uint64_t address[MOST];
static uint8_t first_byte[MOST], reached[MOST];
static long count;

static long find(uint64_t wanted) {
    long low = 0, high = count - 1;
    while (low <= high) {
        long middle = (low + high) / 2;
        if (address[middle] == wanted) return middle;
        if (address[middle] < wanted) low = middle + 1;
        else high = middle - 1;
    }
    return -1;
}

static long now_ms(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

int main(int argc, char **argv) {
    if (argc < 4) return fprintf(stderr, "used OUT FUNCTIONS PROGRAM ARGUMENTS...\n"), 2;
    FILE *list = fopen(argv[2], "r");
    if (!list) return perror(argv[2]), 2;
    for (unsigned long long at; count < MOST && fscanf(list, "%llx", &at) == 1;) address[count++] = at;
    char name[4096];
    snprintf(name, sizeof name, "%s.%d", argv[1], getpid());
    FILE *out = fopen(name, "w");
    if (!out) return perror(name), 2;
    setvbuf(out, 0, _IOLBF, 0);

    pid_t program = fork();
    if (!program) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        execv(argv[3], argv + 3);
        _exit(127);
    }
    int status;
    waitpid(program, &status, 0);
    ptrace(PTRACE_SETOPTIONS, program, 0, PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL);
    snprintf(name, sizeof name, "/proc/%d/mem", program);
    int memory = open(name, O_RDWR);
    if (memory < 0) return perror(name), 2;
    for (long i = 0; i < count; i++) {
        if (pread(memory, &first_byte[i], 1, address[i]) != 1 || pwrite(memory, "\xcc", 1, address[i]) != 1) return perror("memory"), 2;
    }
    long begun = now_ms();
    ptrace(PTRACE_CONT, program, 0, 0);

    for (pid_t thread; (thread = waitpid(-1, &status, __WALL)) > 0;) {
        if (!WIFSTOPPED(status)) {
            if (thread == program) break;
            continue;
        }
        int signal = WSTOPSIG(status);
        if (signal == SIGTRAP && !(status >> 16)) {
            struct user_regs_struct registers;
            ptrace(PTRACE_GETREGS, thread, 0, &registers);
            long i = find(registers.rip - 1);
            if (i >= 0) {
                if (!reached[i]) {
                    reached[i] = 1;
                    pwrite(memory, &first_byte[i], 1, address[i]);
                    fprintf(out, "%ld %llx\n", now_ms() - begun, (unsigned long long)address[i]);
                }
                registers.rip--;
                ptrace(PTRACE_SETREGS, thread, 0, &registers);
            }
        }
        // A new thread's first stop and our own breakpoints are none of the program's business.
        ptrace(PTRACE_CONT, thread, 0, signal == SIGTRAP || signal == SIGSTOP ? 0 : signal);
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
