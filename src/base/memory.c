#include "base/memory.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PATH_BYTES = 1024, MAX_LINE_BYTES = 1024 };

/* The number behind `name` in a file of lines "name number"; behind nothing in a file of one number. */
static bool read_number(const char *path, const char *name, uint64_t *out)
{
    char line[MAX_LINE_BYTES];
    bool found = false;
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return false;
    }
    const size_t len = strlen(name);
    while (!found && fgets(line, sizeof line, file) != NULL) {
        found = strncmp(line, name, len) == 0 && sscanf(line + len, "%" SCNu64, out) == 1;
    }
    fclose(file);
    return found;
}

/* How a version of control groups calls things: folder, limit, use, and pages in it that would be given back. */
typedef struct control {
    const char *marker; /* in a line of /proc/self/cgroup, before the group's path */
    const char *folder, *limit, *use, *cache;
} control;

static const control controls[] = {
    {"0::", "/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file "},
    {":memory:", "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file "},
};

/* Lowers *free_bytes and *total_bytes to what the group at `folder` leaves. */
static void apply_limit(const control *c, const char *folder, uint64_t *free_bytes, uint64_t *total_bytes)
{
    char path[2 * MAX_PATH_BYTES];
    uint64_t limit = 0;
    uint64_t use = 0;
    uint64_t cache = 0;
    snprintf(path, sizeof path, "%s/%s", folder, c->limit);
    if (!read_number(path, "", &limit)) {
        return; /* "max", or no such group */
    }
    snprintf(path, sizeof path, "%s/%s", folder, c->use);
    (void)read_number(path, "", &use);
    snprintf(path, sizeof path, "%s/memory.stat", folder);
    (void)read_number(path, c->cache, &cache);
    use = use > cache ? use - cache : 0;
    const uint64_t left = limit > use ? limit - use : 0;
    *total_bytes = limit < *total_bytes ? limit : *total_bytes;
    *free_bytes = left < *free_bytes ? left : *free_bytes;
}

/* The group and those around it: each has its limit. */
static void apply_limits(const control *c, const char *group, uint64_t *free_bytes, uint64_t *total_bytes)
{
    char folder[MAX_PATH_BYTES];
    const int len = snprintf(folder, sizeof folder, "%s%s", c->folder, group);
    if (len < 0 || (size_t)len >= sizeof folder) {
        return;
    }
    for (;;) {
        apply_limit(c, folder, free_bytes, total_bytes);
        char *end = strrchr(folder, '/');
        if (strlen(folder) <= strlen(c->folder) || end == NULL) {
            return;
        }
        *end = '\0';
    }
}

sky_status sky_machine_memory(uint64_t *free_bytes, uint64_t *total_bytes)
{
    char line[MAX_LINE_BYTES];
    uint64_t total_kb = 0;
    uint64_t free_kb = 0;
    if (!read_number("/proc/meminfo", "MemTotal:", &total_kb) ||
        !read_number("/proc/meminfo", "MemAvailable:", &free_kb)) {
        return sky_fail(SKY_ERR_IO, "/proc/meminfo does not say how much memory there is");
    }
    uint64_t total = total_kb * 1024;
    uint64_t left = free_kb * 1024;
    FILE *groups = fopen("/proc/self/cgroup", "re");
    while (groups != NULL && fgets(line, sizeof line, groups) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        for (size_t i = 0; i < sizeof controls / sizeof controls[0]; i++) {
            const char *place = strstr(line, controls[i].marker);
            if (place != NULL) {
                apply_limits(&controls[i], place + strlen(controls[i].marker), &left, &total);
            }
        }
    }
    if (groups != NULL) {
        fclose(groups);
    }
    *free_bytes = left;
    *total_bytes = total;
    return SKY_OK;
}
