#include "base/json.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    json_t *value = NULL;
    const sky_status st = sky_json_parse((const char *)data, size, &value);
    FUZZ_CHECK(st == SKY_OK || st == SKY_ERR_INPUT);
    FUZZ_CHECK((st == SKY_OK) == (value != NULL));
    uint64_t number = 0;
    if (value != NULL && sky_json_size(value, &number)) {
        FUZZ_CHECK(number <= UINT64_C(1) << 53);
    }
    json_decref(value);
    return 0;
}
