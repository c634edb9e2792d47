/* Runs a kernel on arrays from standard input, and writes the last of them to standard output: see emulation.py.

   Input: the number of arrays and the bytes of the workspace, then of each array its bytes and its content, all numbers
   64 bits wide. Every array lies between guards of NaN; exit status 3 says that the kernel has written to one. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD = 4096, MOST = 16 };

void kernel(void **args);

static int64_t number(void) {
    int64_t value;
    if (fread(&value, sizeof value, 1, stdin) != 1) exit(2);
    return value;
}

static char *guarded(int64_t bytes) {
    char *memory = aligned_alloc(64, (bytes + 2 * GUARD + 63) / 64 * 64);
    if (!memory) exit(2);
    memset(memory, 0xFF, bytes + 2 * GUARD);
    return memory + GUARD;
}

static int damaged(const char *array, int64_t bytes) {
    for (int i = 0; i < GUARD; i++)
        if ((unsigned char)array[i - GUARD] != 0xFF || (unsigned char)array[bytes + i] != 0xFF) return 1;
    return 0;
}

int main(void) {
    int64_t count = number(), bytes[MOST + 1];
    void *args[MOST + 1];
    if (count > MOST) return 2;
    bytes[count] = number();
    for (int i = 0; i < count; i++) {
        bytes[i] = number();
        args[i] = guarded(bytes[i]);
        if (fread(args[i], 1, bytes[i], stdin) != (size_t)bytes[i]) return 2;
    }
    args[count] = guarded(bytes[count]);
    kernel(args);
    for (int i = 0; i <= count; i++)
        if (damaged(args[i], bytes[i])) return 3;
    return fwrite(args[count - 1], 1, bytes[count - 1], stdout) != (size_t)bytes[count - 1];
}
