#include "support/golden.h"

#include "support/test.h"

#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static hid_t open_file(const char *file)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", SKY_TEST_GOLDEN, file);
    const hid_t id = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (id < 0) {
        test_fail(__FILE__, __LINE__, "cannot open %s", path);
    }
    return id;
}

static bool read_as(const char *file, const char *name, hid_t type, size_t element_bytes, golden_array *out)
{
    *out = (golden_array){0};
    const hid_t f = open_file(file);
    if (f < 0) {
        return false;
    }
    bool ok = false;
    const hid_t set = H5Dopen2(f, name, H5P_DEFAULT);
    if (set >= 0) {
        const hid_t space = H5Dget_space(set);
        hsize_t dims[H5S_MAX_RANK];
        out->num_dims = H5Sget_simple_extent_dims(space, dims, NULL);
        out->count = 1;
        for (int i = 0; i < out->num_dims && i < SKY_MAX_DIMS; i++) {
            out->shape[i] = (int64_t)dims[i];
            out->count *= (size_t)dims[i];
        }
        out->data = malloc(out->count * element_bytes + 1);
        ok = out->data != NULL && H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, out->data) >= 0;
        H5Sclose(space);
        H5Dclose(set);
    }
    H5Fclose(f);
    if (!ok) {
        test_fail(__FILE__, __LINE__, "%s has no readable dataset %s", file, name);
        golden_free(out);
    }
    return ok;
}

bool golden_read_f32(const char *file, const char *name, golden_array *out)
{
    return read_as(file, name, H5T_NATIVE_FLOAT, sizeof(float), out);
}

bool golden_read_i64(const char *file, const char *name, golden_array *out)
{
    return read_as(file, name, H5T_NATIVE_INT64, sizeof(int64_t), out);
}

bool golden_read_u8(const char *file, const char *name, golden_array *out)
{
    return read_as(file, name, H5T_NATIVE_UINT8, sizeof(uint8_t), out);
}

void golden_free(golden_array *array)
{
    free(array->data);
    *array = (golden_array){0};
}

bool golden_attr_double(const char *file, const char *name, const char *attr, double *out)
{
    const hid_t f = open_file(file);
    if (f < 0) {
        return false;
    }
    const hid_t a = H5Aopen_by_name(f, name, attr, H5P_DEFAULT, H5P_DEFAULT);
    const bool ok = a >= 0 && H5Aread(a, H5T_NATIVE_DOUBLE, out) >= 0;
    if (a >= 0) {
        H5Aclose(a);
    }
    H5Fclose(f);
    return ok;
}

bool golden_attr_text(const char *file, const char *name, const char *attr, char *text, size_t size)
{
    const hid_t f = open_file(file);
    if (f < 0) {
        return false;
    }
    bool ok = false;
    const hid_t a = H5Aopen_by_name(f, name, attr, H5P_DEFAULT, H5P_DEFAULT);
    if (a >= 0) {
        const hid_t type = H5Aget_type(a);
        if (H5Tis_variable_str(type) > 0) {
            char *value = NULL;
            const hid_t memory = H5Tcopy(H5T_C_S1);
            H5Tset_size(memory, H5T_VARIABLE);
            H5Tset_cset(memory, H5Tget_cset(type));
            if (H5Aread(a, memory, &value) >= 0 && value != NULL) {
                snprintf(text, size, "%s", value);
                H5free_memory(value);
                ok = true;
            }
            H5Tclose(memory);
        }
        H5Tclose(type);
        H5Aclose(a);
    }
    H5Fclose(f);
    return ok;
}

struct visit_state {
    void (*visit)(const char *name, void *user);
    void *user;
};

static herr_t on_link(hid_t group, const char *name, const H5L_info_t *info, void *data)
{
    (void)group;
    (void)info;
    const struct visit_state *state = data;
    state->visit(name, state->user);
    return 0;
}

bool golden_children(const char *file, const char *group, void (*visit)(const char *name, void *user), void *user)
{
    const hid_t f = open_file(file);
    if (f < 0) {
        return false;
    }
    struct visit_state state = {visit, user};
    const bool ok =
        H5Literate_by_name(f, group, H5_INDEX_NAME, H5_ITER_NATIVE, NULL, on_link, &state, H5P_DEFAULT) >= 0;
    H5Fclose(f);
    return ok;
}
