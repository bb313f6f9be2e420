#include "base/memory.h"
#include "support/test.h"

#include <inttypes.h>

TEST(a_machine_has_memory_and_some_of_it_is_free)
{
    uint64_t left = 0;
    uint64_t total = 0;
    CHECK_OK(sky_machine_memory(&left, &total));
    test_parameters("%" PRIu64 " of %" PRIu64 " bytes", left, total);
    EXPECT(left > 0 && left <= total && total > 1 << 20 && total < (uint64_t)1 << 50);
}

TEST_MAIN
