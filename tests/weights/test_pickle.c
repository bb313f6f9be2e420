#include "support/test.h"
#include "weights/build_files.h"
#include "weights/torch_pickle.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Two storages: "0" of 6 floats and "1" of 100 bytes. Collects what it is given. */
typedef struct seen {
    sky_pickle_tensor tensors[8];
    char names[8][64];
    uint64_t announced;
    int count;
} seen;

static sky_status on_storage(void *user, const char *key, size_t len, sky_dtype dtype, uint64_t numel, int64_t *index)
{
    (void)user;
    if (len != 1 || (*key != '0' && *key != '1')) {
        return sky_fail(SKY_ERR_INPUT, "no such storage");
    }
    if (numel > 100 || numel * sky_dtype_bytes(dtype) != (*key == '0' ? 24 : 100)) {
        return sky_fail(SKY_ERR_INPUT, "do not make its bytes");
    }
    *index = *key - '0';
    return SKY_OK;
}

static sky_status on_begin(void *user, uint64_t num_tensors)
{
    ((seen *)user)->announced = num_tensors;
    return SKY_OK;
}

static sky_status on_tensor(void *user, const sky_pickle_tensor *tensor)
{
    seen *s = user;
    SKY_ASSERT(s->count < 8 && tensor->name_len < sizeof s->names[0]);
    memcpy(s->names[s->count], tensor->name, tensor->name_len);
    s->tensors[s->count++] = *tensor;
    return SKY_OK;
}

static sky_status read_pickle(const void *data, size_t len, seen *s)
{
    sky_budget budget = {.left_bytes = SKY_BUDGET_BASE_BYTES + 2 * len};
    const sky_pickle_visitor visitor = {.user = s, .storage = on_storage, .begin = on_begin, .tensor = on_tensor};
    *s = (seen){0};
    const sky_status st = sky_pickle_read(data, len, &budget, &visitor);
    SKY_ASSERT(budget.left_bytes == SKY_BUDGET_BASE_BYTES + 2 * len); /* everything was given back */
    return st;
}

static sky_status read_bytes(const bytes *b, seen *s)
{
    /* an exact copy, so that the sanitizers see a byte read beyond its end */
    unsigned char *copy = malloc(b->len > 0 ? b->len : 1);
    if (b->len > 0) {
        memcpy(copy, b->data, b->len);
    }
    const sky_status st = read_pickle(copy, b->len, s);
    free(copy);
    return st;
}

static const tensor_spec plain = {.name = "w",
                                  .storage_class = "FloatStorage",
                                  .key = "0",
                                  .numel = 6,
                                  .num_dims = 2,
                                  .shape = {2, 3},
                                  .stride = {3, 1}};

TEST(a_state_dict_gives_its_tensors)
{
    bytes b = {0};
    seen s;
    tensor_spec scalar = {"log_scale", "FloatStorage", "0", 6, 5, 0, {0}, {0}};
    tensor_spec view = {"view", "ByteStorage", "1", 100, 90, 3, {5, 1, 2}, {2, 77, 1}};
    tensor_spec none = {"none", "BFloat16Storage", "1", 50, 50, 2, {0, 3}, {1, 1}};
    build_pickle(&b, (tensor_spec[]){plain, scalar, view, none}, 4);
    CHECK_OK(read_bytes(&b, &s));
    CHECK(s.announced == 4 && s.count == 4);
    CHECK(strcmp(s.names[0], "w") == 0 && s.tensors[0].dtype == SKY_F32 && s.tensors[0].num_dims == 2);
    CHECK(s.tensors[0].shape[0] == 2 && s.tensors[0].shape[1] == 3 && s.tensors[0].count == 6);
    CHECK(s.tensors[1].num_dims == 0 && s.tensors[1].count == 1 && s.tensors[1].first == 5);
    CHECK(s.tensors[2].storage == 1 && s.tensors[2].dtype == SKY_U8 && s.tensors[2].first == 90);
    CHECK(s.tensors[2].count == 10 && s.tensors[3].count == 0 && s.tensors[3].dtype == SKY_BF16);
    bytes_free(&b);
}

/* As torch writes an OrderedDict with _metadata, parameters, an older tensor function, and values that are no tensors. */
TEST(what_state_dicts_carry_besides_is_accepted)
{
    bytes b = {0};
    seen s;
    bytes_text(&b, "\x80\x02");
    pickle_global(&b, "collections", "OrderedDict");
    bytes_text(&b, ")R(");
    pickle_text(&b, "a");
    pickle_global(&b, "torch._utils", "_rebuild_parameter");
    bytes_text(&b, "(");
    pickle_tensor(&b, &plain);
    bytes_text(&b, "\x88");
    pickle_global(&b, "collections", "OrderedDict");
    bytes_text(&b, ")RtR");
    pickle_text(&b, "list");
    bytes_text(&b, "](NN\x89"
                   "eNa");
    pickle_text(&b, "float");
    bytes_text(&b, "G\x3f\xf0\1\1\1\1\1\1");
    pickle_text(&b, "size");
    pickle_global(&b, "torch", "Size");
    bytes_text(&b, "K\1K\2\x86\x85R");
    pickle_int(&b, 7);
    bytes_text(&b, "\x8a\x02\xff\xff");
    bytes_text(&b, "u}");
    pickle_text(&b, "_metadata");
    pickle_global(&b, "collections", "OrderedDict");
    bytes_text(&b, ")R");
    pickle_text(&b, "");
    bytes_text(&b, "}");
    pickle_text(&b, "version");
    bytes_text(&b, "K\1sssb.");
    CHECK_OK(read_bytes(&b, &s));
    CHECK(s.count == 1 && strcmp(s.names[0], "a") == 0);
    bytes_free(&b);
}

TEST(a_state_dict_may_be_wrapped_once)
{
    static const struct {
        const char *key;
        bool ok;
    } rows[] = {{"state_dict", true}, {"model", true}, {"optimizer", false}};
    for (size_t i = 0; i < 3; i++) {
        bytes b = {0};
        seen s;
        test_parameters("%s", rows[i].key);
        bytes_text(&b, "\x80\x02}");
        pickle_text(&b, rows[i].key);
        bytes_text(&b, "}");
        pickle_text(&b, "w");
        pickle_tensor(&b, &plain);
        bytes_text(&b, "ss.");
        CHECK_STATUS(read_bytes(&b, &s), rows[i].ok ? SKY_OK : SKY_ERR_INPUT);
        CHECK(s.count == rows[i].ok);
        bytes_free(&b);
    }
}

/* ---- tensors that lie ---- */

static const struct bad_tensor {
    const char *label;
    tensor_spec spec;
    const char *says;
} bad_tensors[] = {
    {"storage too small", {"w", "FloatStorage", "0", 6, 0, 1, {7}, {1}}, "beyond its storage"},
    {"offset too large", {"w", "FloatStorage", "0", 6, 1, 1, {6}, {1}}, "beyond its storage"},
    {"scalar behind the end", {"w", "FloatStorage", "0", 6, 6, 0, {0}, {0}}, "beyond its storage"},
    {"empty behind the end", {"w", "FloatStorage", "0", 6, 7, 1, {0}, {1}}, "beyond its storage"},
    {"offset negative", {"w", "FloatStorage", "0", 6, -1, 1, {6}, {1}}, "offset"},
    {"offset wraps", {"w", "FloatStorage", "0", 6, INT64_MAX, 1, {6}, {1}}, "beyond its storage"},
    {"size negative", {"w", "FloatStorage", "0", 6, 0, 2, {-2, -3}, {3, 1}}, "negative or too large"},
    {"negative beside zero", {"w", "FloatStorage", "0", 6, 0, 2, {0, -5}, {1, 1}}, "negative or too large"},
    {"product wraps", {"w", "FloatStorage", "0", 6, 0, 3, {4194305, 4194305, 211106198978564}, {1, 1, 1}}, "too large"},
    {"2^63", {"w", "FloatStorage", "0", 6, 0, 1, {INT64_MIN}, {1}}, "too large"},
    {"transposed", {"w", "FloatStorage", "0", 6, 0, 2, {2, 3}, {1, 2}}, "not contiguous"},
    {"broadcast", {"w", "FloatStorage", "0", 6, 0, 2, {1000, 3}, {0, 1}}, "not contiguous"},
    {"negative stride", {"w", "FloatStorage", "0", 6, 5, 1, {6}, {-1}}, "not contiguous"},
    {"huge stride", {"w", "FloatStorage", "0", 6, 0, 2, {2, 3}, {INT64_MAX, 1}}, "not contiguous"},
    {"seven dimensions", {"w", "FloatStorage", "0", 6, 0, 7, {1, 1, 1, 1, 1, 2, 3}, {6, 6, 6, 6, 6, 3, 1}}, "too many"},
    {"numel lie", {"w", "FloatStorage", "0", 7, 0, 1, {6}, {1}}, "do not make"},
    {"numel negative", {"w", "FloatStorage", "0", -6, 0, 1, {6}, {1}}, "persistent id"},
    {"type lie", {"w", "DoubleStorage", "0", 6, 0, 1, {6}, {1}}, "do not make"},
    {"no such storage", {"w", "FloatStorage", "2", 6, 0, 1, {6}, {1}}, "no such storage"},
    {"empty key", {"w", "FloatStorage", "", 6, 0, 1, {6}, {1}}, "no such storage"},
    {"no storage class", {"w", "Size", "0", 6, 0, 1, {6}, {1}}, "persistent id"},
    {"unknown storage class", {"w", "QInt8Storage", "0", 24, 0, 1, {6}, {1}}, "not needed"},
};

static void expect_refused(const bytes *b, const char *says)
{
    seen s;
    CHECK_STATUS(read_bytes(b, &s), SKY_ERR_INPUT);
    if (strstr(sky_message(), says) == NULL) {
        test_fail(__FILE__, __LINE__, "want a message with '%s', got: %s", says, sky_message());
    }
    CHECK(s.count == 0);
}

TEST(tensors_that_lie_are_refused)
{
    for (size_t i = 0; i < sizeof bad_tensors / sizeof bad_tensors[0]; i++) {
        bytes b = {0};
        test_parameters("%s", bad_tensors[i].label);
        build_pickle(&b, &bad_tensors[i].spec, 1);
        expect_refused(&b, bad_tensors[i].says);
        bytes_free(&b);
    }
}

TEST(stride_and_size_have_the_same_length)
{
    static const char stride[] = "(K\3K\1t";
    bytes b = {0};
    build_pickle(&b, &plain, 1);
    unsigned char *at = memmem(b.data, b.len, stride, sizeof stride - 1);
    CHECK(at != NULL);
    memcpy(at, "J\1\0\0\0\x85", sizeof stride - 1); /* (1,) */
    expect_refused(&b, "storage, offset, size or stride");
    bytes_free(&b);
}

TEST(metadata_is_a_dict)
{
    bytes b = {0};
    bytes_text(&b, "\x80\x02");
    pickle_global(&b, "collections", "OrderedDict");
    bytes_text(&b, ")R}");
    pickle_text(&b, "_metadata");
    pickle_tensor(&b, &plain);
    bytes_text(&b, "sb.");
    expect_refused(&b, "BUILD");
    bytes_free(&b);
}

TEST(the_older_tensor_function_is_known)
{
    static const char newer[] = "_rebuild_tensor_v2";
    bytes b = {0};
    seen s;
    build_pickle(&b, &plain, 1);
    unsigned char *at = memmem(b.data, b.len, newer, sizeof newer - 1);
    CHECK(at != NULL);
    memmove(at + sizeof newer - 4, at + sizeof newer - 1, b.len - (size_t)(at - b.data) - (sizeof newer - 1));
    b.len -= 3;
    expect_refused(&b, "REDUCE"); /* it has no requires_grad and no hooks */
    b.len -= strlen("\x89"
                    "ccollections\nOrderedDict\n)RtRu.");
    bytes_text(&b, "tRu.");
    CHECK_OK(read_bytes(&b, &s));
    CHECK(s.count == 1 && s.tensors[0].count == 6);
    bytes_free(&b);
}

/* ---- programs ---- */

#define RAW(text) (text), sizeof(text) - 1
#define DICT      "ccollections\nOrderedDict\n)R"

static const struct bad_pickle {
    const char *label;
    const char *data;
    size_t len;
    const char *says;
} bad_pickles[] = {
    {"empty", RAW(""), "too early"},
    {"only PROTO", RAW("\x80\x02"), "too early"},
    {"missing STOP", RAW("\x80\x02}"), "too early"},
    {"no PROTO", RAW("}."), "protocol 2"},
    {"protocol 0", RAW("(dp0\n."), "protocol 2"},
    {"protocol 1", RAW("\x80\x01}."), "protocol 2"},
    {"protocol 3", RAW("\x80\x03}."), "protocol 2"},
    {"protocol 4", RAW("\x80\x04\x95\x02\0\0\0\0\0\0\0}."), "protocol 2"},
    {"protocol 5", RAW("\x80\x05}."), "protocol 2"},
    {"PROTO again", RAW("\x80\x02\x80\x02}."), "opcode 0x80"},
    {"os.system",
     RAW("\x80\x02"
         "cos\nsystem\nX\2\0\0\0id\x85R."),
     "os.system"},
    {"posix.system",
     RAW("\x80\x02"
         "cposix\nsystem\nX\2\0\0\0id\x85R."),
     "posix.system"},
    {"builtins.eval",
     RAW("\x80\x02"
         "cbuiltins\neval\nX\2\0\0\0id\x85R."),
     "builtins.eval"},
    {"__builtin__.eval",
     RAW("\x80\x02"
         "c__builtin__\neval\n."),
     "__builtin__.eval"},
    {"subprocess",
     RAW("\x80\x02"
         "csubprocess\nPopen\n."),
     "subprocess.Popen"},
    {"dotted attribute",
     RAW("\x80\x02"
         "ctorch\n_utils._rebuild_tensor_v2\n."),
     "not needed"},
    {"torch.load",
     RAW("\x80\x02"
         "ctorch\nload\n."),
     "torch.load"},
    {"module with a suffix",
     RAW("\x80\x02"
         "ctorch._utils.x\n_rebuild_tensor_v2\n."),
     "not needed"},
    {"module cut",
     RAW("\x80\x02"
         "ccollection\nOrderedDict\n."),
     "not needed"},
    {"CR LF",
     RAW("\x80\x02"
         "ccollections\r\nOrderedDict\r\n."),
     "something that is not"},
    {"NUL in a module",
     RAW("\x80\x02"
         "ctorch\0\nSize\n."),
     "something that is not"},
    {"escape in a module",
     RAW("\x80\x02"
         "c\x1b[31m\nSize\n."),
     "something that is not"},
    {"no line end",
     RAW("\x80\x02"
         "ctorch\nSize"),
     "too early"},
    {"STACK_GLOBAL", RAW("\x80\x02X\2\0\0\0osX\6\0\0\0system\x93."), "opcode 0x93"},
    {"STACK_GLOBAL of ours", RAW("\x80\x02X\5\0\0\0torchX\4\0\0\0Size\x93."), "opcode 0x93"},
    {"INST", RAW("\x80\x02(ios\nsystem\n."), "opcode 0x69"},
    {"OBJ", RAW("\x80\x02(ccollections\nOrderedDict\no."), "opcode 0x6f"},
    {"NEWOBJ",
     RAW("\x80\x02"
         "ccollections\nOrderedDict\n)\x81."),
     "opcode 0x81"},
    {"NEWOBJ_EX", RAW("\x80\x02\x92."), "opcode 0x92"},
    {"EXT1", RAW("\x80\x02\x82\1."), "opcode 0x82"},
    {"EXT2", RAW("\x80\x02\x83\1\1."), "opcode 0x83"},
    {"EXT4", RAW("\x80\x02\x84\1\1\1\1."), "opcode 0x84"},
    {"PERSID", RAW("\x80\x02Pstorage\n."), "opcode 0x50"},
    {"STRING", RAW("\x80\x02S'x'\n."), "opcode 0x53"},
    {"INT", RAW("\x80\x02I1\n."), "opcode 0x49"},
    {"BINSTRING", RAW("\x80\x02T\1\0\0\0x."), "opcode 0x54"},
    {"SHORT_BINUNICODE", RAW("\x80\x02\x8c\1x."), "opcode 0x8c"},
    {"MEMOIZE", RAW("\x80\x02}\x94."), "opcode 0x94"},
    {"FRAME", RAW("\x80\x02\x95\0\0\0\0\0\0\0\0}."), "opcode 0x95"},
    {"LONG4", RAW("\x80\x02\x8b\1\0\0\0\1."), "opcode 0x8b"},
    {"POP", RAW("\x80\x02}N0."), "opcode 0x30"},
    {"DUP", RAW("\x80\x02}2."), "opcode 0x32"},
    {"POP_MARK", RAW("\x80\x02}(1."), "opcode 0x31"},
    {"GET as text", RAW("\x80\x02}q\0g0\n."), "opcode 0x67"},
    {"PUT as text", RAW("\x80\x02}p0\n."), "opcode 0x70"},
    {"DICT", RAW("\x80\x02(d."), "opcode 0x64"},
    {"LIST", RAW("\x80\x02(l."), "opcode 0x6c"},
    {"BYTEARRAY8", RAW("\x80\x02\x96\0\0\0\0\0\0\0\0."), "opcode 0x96"},
    {"NEXT_BUFFER", RAW("\x80\x02\x97."), "opcode 0x97"},
    {"opcode 0", RAW("\x80\x02\0."), "opcode 0x00"},
    {"opcode ff", RAW("\x80\x02\xff."), "opcode 0xff"},

    {"STOP of nothing", RAW("\x80\x02."), "too few"},
    {"STOP on a mark", RAW("\x80\x02}(."), "too few"},
    {"two values at the end", RAW("\x80\x02}}."), "left over"},
    {"bytes behind STOP", RAW("\x80\x02}.x"), "left over"},
    {"a pickle behind the pickle", RAW("\x80\x02}.\x80\x02}."), "left over"},
    {"no dict", RAW("\x80\x02N."), "no dict of tensors"},
    {"an empty dict", RAW("\x80\x02}."), "no dict of tensors"},
    {"a tuple with too little", RAW("\x80\x02N\x86."), "too few"},
    {"a tuple over a mark", RAW("\x80\x02N(N\x86."), "too few"},
    {"TUPLE without mark", RAW("\x80\x02Nt."), "no mark"},
    {"SETITEMS without mark", RAW("\x80\x02}NNu."), "no mark"},
    {"APPENDS without mark", RAW("\x80\x02]Ne."), "no mark"},

    {"SETITEM on a list", RAW("\x80\x02]K\1Ns."), "SETITEM"},
    {"SETITEMS on a list", RAW("\x80\x02](K\1Nu."), "SETITEM"},
    {"SETITEM on a tuple", RAW("\x80\x02)K\1Ns."), "SETITEM"},
    {"SETITEM on a string", RAW("\x80\x02X\1\0\0\0xK\1Ns."), "SETITEM"},
    {"SETITEM on a function",
     RAW("\x80\x02"
         "ctorch\nSize\nK\1Ns."),
     "SETITEM"},
    {"SETITEM on nothing", RAW("\x80\x02K\1Ns."), "SETITEM"},
    {"SETITEM on a mark", RAW("\x80\x02(K\1Ns."), "SETITEM"},
    {"SETITEMS of an odd number", RAW("\x80\x02}(K\1u."), "key without"},
    {"a list as key", RAW("\x80\x02}]Ns."), "a key"},
    {"a dict as key", RAW("\x80\x02}}Ns."), "a key"},
    {"a tuple as key", RAW("\x80\x02})Ns."), "a key"},
    {"APPEND on a dict", RAW("\x80\x02}Na."), "APPEND"},
    {"APPENDS on a dict", RAW("\x80\x02}(Ne."), "APPEND"},
    {"APPEND on a tuple", RAW("\x80\x02)Na."), "APPEND"},
    {"APPEND on an OrderedDict", RAW("\x80\x02" DICT "Na."), "APPEND"},

    {"BUILD on a dict", RAW("\x80\x02}}X\x09\0\0\0_metadata" DICT "sb."), "BUILD"},
    {"BUILD on a list", RAW("\x80\x02]}X\x09\0\0\0_metadata" DICT "sb."), "BUILD"},
    {"BUILD on a function",
     RAW("\x80\x02"
         "ctorch\nSize\n}X\x09\0\0\0_metadata" DICT "sb."),
     "BUILD"},
    {"BUILD on nothing", RAW("\x80\x02}X\x09\0\0\0_metadata" DICT "sb."), "BUILD"},
    {"BUILD of another attribute", RAW("\x80\x02" DICT "}X\x09\0\0\0__class__" DICT "sb."), "BUILD"},
    {"BUILD of two attributes", RAW("\x80\x02" DICT "}X\x09\0\0\0_metadata" DICT "sX\1\0\0\0xNsb."), "BUILD"},
    {"BUILD of _metadata that is no dict", RAW("\x80\x02" DICT "}X\x09\0\0\0_metadataNsb."), "BUILD"},
    {"BUILD of None", RAW("\x80\x02" DICT "Nb."), "BUILD"},
    {"BUILD of a pair of states",
     RAW("\x80\x02" DICT "N}\x86"
         "b."),
     "BUILD"},

    {"REDUCE of a string", RAW("\x80\x02X\2\0\0\0id)R."), "REDUCE"},
    {"REDUCE of a dict", RAW("\x80\x02})R."), "REDUCE"},
    {"REDUCE with a list",
     RAW("\x80\x02"
         "ctorch\nSize\n]R."),
     "REDUCE"},
    {"a storage called",
     RAW("\x80\x02"
         "ctorch\nFloatStorage\n)R."),
     "REDUCE"},
    {"OrderedDict with arguments",
     RAW("\x80\x02"
         "ccollections\nOrderedDict\n]\x85R."),
     "REDUCE"},
    {"Size of nothing",
     RAW("\x80\x02"
         "ctorch\nSize\n)R."),
     "REDUCE"},
    {"Size of a number",
     RAW("\x80\x02"
         "ctorch\nSize\nK\1\x85R."),
     "REDUCE"},
    {"tensor of nothing",
     RAW("\x80\x02"
         "ctorch._utils\n_rebuild_tensor_v2\n)R."),
     "REDUCE"},
    {"tensor of strings",
     RAW("\x80\x02"
         "ctorch._utils\n_rebuild_tensor_v2\n(X\1\0\0\0xX\1\0\0\0xX\1\0\0\0xX\1\0\0\0x\x89" DICT "tR."),
     "storage, offset"},
    {"old tensor of nothing",
     RAW("\x80\x02"
         "ctorch._utils\n_rebuild_tensor\n)R."),
     "REDUCE"},
    {"old tensor of strings",
     RAW("\x80\x02"
         "ctorch._utils\n_rebuild_tensor\n(NNNNtR."),
     "storage, offset"},
    {"parameter of a string",
     RAW("\x80\x02"
         "ctorch._utils\n_rebuild_parameter\n(X\1\0\0\0x\x89" DICT "tR."),
     "REDUCE"},

    {"persistent id a string", RAW("\x80\x02X\7\0\0\0storageQ."), "persistent id"},
    {"persistent id of another kind", RAW("\x80\x02(X\6\0\0\0moduleNNNNtQ."), "persistent id"},
    {"persistent id cut", RAW("\x80\x02(X\7\0\0\0storagectorch\nFloatStorage\ntQ."), "persistent id"},
    {"persistent id with a list as key", RAW("\x80\x02(X\7\0\0\0storagectorch\nFloatStorage\n]X\3\0\0\0cpuK\6tQ."),
     "persistent id"},
    {"persistent id with a foreign class",
     RAW("\x80\x02(X\7\0\0\0storagecio\nopen\nX\1\0\0\0"
         "0X\3\0\0\0cpuK\6tQ."),
     "io.open"},

    {"memo never put", RAW("\x80\x02h\0."), "never put"},
    {"memo far away", RAW("\x80\x02j\xff\xff\xff\xff."), "never put"},
    {"memo unset beside", RAW("\x80\x02}q\1h\0."), "never put"},
    {"memo number too high", RAW("\x80\x02}r\xff\xff\xff\xff."), "too high"},
    {"memo number 1,000,000", RAW("\x80\x02}r\x40\x42\x0f\0."), "too high"},
    {"a mark put", RAW("\x80\x02(q\0."), "nothing to put"},
    {"nothing put", RAW("\x80\x02q\0."), "nothing to put"},
    {"long string", RAW("\x80\x02X\xff\xff\xff\xffx."), "too early"},
    {"string one too long", RAW("\x80\x02X\2\0\0\0."), "too early"},
    {"number cut", RAW("\x80\x02J\1\1\1"), "too early"},
    {"LONG1 of 9 bytes", RAW("\x80\x02\x8a\x09\1\1\1\1\1\1\1\1\1."), "64 bits"},
    {"LONG1 cut", RAW("\x80\x02\x8a\x08\1\1"), "too early"},
    {"float cut", RAW("\x80\x02G\1\1"), "too early"},
};

TEST(programs_are_refused)
{
    for (size_t i = 0; i < sizeof bad_pickles / sizeof bad_pickles[0]; i++) {
        bytes b = {0};
        test_parameters("%s", bad_pickles[i].label);
        bytes_add(&b, bad_pickles[i].data, bad_pickles[i].len);
        expect_refused(&b, bad_pickles[i].says);
        bytes_free(&b);
    }
}

/* Only the opcodes of the table are known: each other byte is refused wherever it is executed. */
TEST(there_are_30_opcodes)
{
    int known = 0;
    for (int op = 0; op < 256; op++) {
        const char pickle[] = {(char)0x80, 2, (char)op};
        seen s;
        CHECK_STATUS(read_pickle(pickle, sizeof pickle, &s), SKY_ERR_INPUT);
        known += strstr(sky_message(), "opcode") == NULL;
    }
    CHECK(known == 30); /* PROTO counts as unknown here: it may only come first */
}

/* ---- limits ---- */

static bytes repeated(const char *start, const char *piece, size_t piece_len, size_t times, const char *end)
{
    bytes b = {0};
    b.capacity = strlen(start) + piece_len * times + strlen(end) + 1;
    b.data = malloc(b.capacity);
    bytes_text(&b, start);
    for (size_t i = 0; i < times; i++) {
        memcpy(b.data + b.len, piece, piece_len);
        b.len += piece_len;
    }
    bytes_text(&b, end);
    return b;
}

TEST(stack_steps_and_memory_are_limited)
{
    bytes b = repeated("\x80\x02", "N", 1, 1000001, "."); /* a stack of more than a million */
    expect_refused(&b, "too deep");
    bytes_free(&b);
    b = repeated("\x80\x02", "(", 1, 1000001, ".");
    expect_refused(&b, "too deep");
    bytes_free(&b);
    b = repeated("\x80\x02]", "Na", 2, 26000000, "."); /* 52 million steps without a value left */
    expect_refused(&b, "steps");
    bytes_free(&b);
    b = repeated("\x80\x02", "}", 1, 900000, "."); /* within the stack, and 32 bytes for each byte */
    expect_refused(&b, "left over");
    bytes_free(&b);

    bytes row = repeated("(", "h\0", 2, 100000, "tr"); /* tuples of 100,000 values: 1.6 MB for 200 kB of file */
    b = repeated("\x80\x02Nq", "", 0, 0, "");
    bytes_number(&b, 0, 1);
    for (int i = 0; i < 60; i++) {
        bytes_add(&b, row.data, row.len);
        bytes_number(&b, (uint64_t)i + 1, 4);
    }
    expect_refused(&b, "memory");
    bytes_free(&b);
    bytes_free(&row);
}

/* A thousand levels of "twice the one before" are a thousand small tuples, not 2^1000 of anything. */
TEST(a_memo_bomb_stays_small)
{
    bytes b = {0};
    seen s;
    bytes_text(&b, "\x80\x02}");
    pickle_text(&b, "w");
    pickle_tensor(&b, &plain);
    bytes_text(&b, "s");
    pickle_text(&b, "bomb");
    bytes_text(&b, ")r");
    bytes_number(&b, 0, 4);
    for (uint64_t i = 0; i < 1000; i++) {
        bytes_text(&b, "j");
        bytes_number(&b, i, 4);
        bytes_text(&b, "\x86r");
        bytes_number(&b, i + 1, 4);
    }
    bytes_text(&b, "s.");
    CHECK_OK(read_bytes(&b, &s));
    CHECK(s.count == 1);
    bytes_free(&b);
}

TEST(a_pickle_cut_short_or_with_a_flipped_bit_is_safe)
{
    bytes b = {0};
    seen s;
    build_pickle(&b, (tensor_spec[]){plain, {"v", "ByteStorage", "1", 100, 3, 1, {9}, {1}}}, 2);
    const size_t len = b.len;
    for (b.len = 0; b.len < len; b.len++) {
        test_parameters("len=%zu of %zu", b.len, len);
        CHECK_STATUS(read_bytes(&b, &s), SKY_ERR_INPUT);
    }
    for (size_t bit = 0; bit < 8 * len; bit++) {
        test_parameters("bit=%zu", bit);
        b.data[bit / 8] ^= (unsigned char)(1U << bit % 8);
        const sky_status st = read_bytes(&b, &s);
        b.data[bit / 8] ^= (unsigned char)(1U << bit % 8);
        CHECK(st == SKY_OK || st == SKY_ERR_INPUT);
        for (int i = 0; i < s.count; i++) { /* names and offsets may change, but nothing leaves its storage */
            const uint64_t room = (s.tensors[i].storage == 0 ? 24 : 100) / sky_dtype_bytes(s.tensors[i].dtype);
            CHECK(s.tensors[i].first <= room && s.tensors[i].count <= room - s.tensors[i].first);
        }
    }
    bytes_free(&b);
}

/* ---- nothing in a file is ever executed ---- */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = 1 }; /* a sanitizer makes system calls of its own */
#else
enum { SANITIZED = 0 };
#endif

/* After this, any system call but those that memory and ending need kills the process. */
static bool allow_only_memory_and_exit(void)
{
#define ALLOW(number) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (number), 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ALLOW(SYS_mmap),
        ALLOW(SYS_munmap),
        ALLOW(SYS_mremap),
        ALLOW(SYS_brk),
        ALLOW(SYS_madvise),
        ALLOW(SYS_exit_group),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
#undef ALLOW
    const struct sock_fprog program = {sizeof rules / sizeof rules[0], rules};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

TEST(a_pickle_reaches_no_system_call_but_memory)
{
    if (SANITIZED) {
        test_skip("a sanitizer makes system calls of its own");
        return;
    }
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        seen s;
        bytes b = {0};
        build_pickle(&b, &plain, 1);
        if (!allow_only_memory_and_exit()) {
            _exit(2);
        }
        bool ok = read_pickle(b.data, b.len, &s) == SKY_OK && s.count == 1;
        for (size_t i = 0; i < sizeof bad_pickles / sizeof bad_pickles[0]; i++) {
            ok = read_pickle(bad_pickles[i].data, bad_pickles[i].len, &s) == SKY_ERR_INPUT && ok;
        }
        _exit(ok ? 0 : 1);
    }
    int state = 0;
    CHECK(waitpid(child, &state, 0) == child);
    if (WIFEXITED(state) && WEXITSTATUS(state) == 2) {
        test_skip("this system has no seccomp filters");
        return;
    }
    CHECK(WIFEXITED(state) && WEXITSTATUS(state) == 0);
}

TEST_MAIN
