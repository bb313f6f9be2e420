/*
 * tests/parallel/watched_group.h - whose wait it is: a group whose exchanges tell the late device (support/late.h)
 */
#ifndef SKY_TESTS_PARALLEL_WATCHED_GROUP_H
#define SKY_TESTS_PARALLEL_WATCHED_GROUP_H

#include "parallel/group.h"

/* From now on, host waits within exchanges of this group, and of those split from it, count as inside. One kind of group a program. */
void watch_group(sky_group *group);

#endif
