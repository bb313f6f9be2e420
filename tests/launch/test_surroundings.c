/* The programs where they are started oddly: descriptors that are closed, signals that are ignored, names that are no UTF-8. */
#include "launch/program.h"
#include "support/test.h"

#include <dirent.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define DIFFUSERS SKY_TEST_MODELS "/diffusers-t2v"

#define RENDER                                                                                                        \
    "'" SKY_TEST_PROGRAM "' --height 32 --width 32 --num_frames 5 --inference_steps 1 --threads 1 --seed 1 --prompt " \
    "'A ball.' --model_path '" DIFFUSERS "' "

/* A line of bash, in a folder of its own. */
static void in_bash(program_run *run, const char *folder, const char *line)
{
    char command[4096];
    mkdir(folder, 0777);
    snprintf(command, sizeof command, "cd '%s' && %s", folder, line);
    const char *const argv[] = {"bash", "-c", command, NULL};
    program_start(run, argv);
}

/* As cron and daemons start programs: what is meant for the terminal must not go into the next file that is opened. */
TEST(closed_descriptors_are_not_taken_for_files)
{
    static const char *const closed[] = {"<&- 2>&-", ">&- 2>&-", "<&- >&- 2>&-", "2>&-"};
    for (size_t i = 0; i < sizeof closed / sizeof closed[0]; i++) {
        char line[2048];
        char name[32];
        program_run run;
        snprintf(name, sizeof name, "closed%zu", i);
        const char *folder = test_temp_path(name);
        test_parameters("%s", closed[i]);
        snprintf(line, sizeof line, RENDER "--output x.y4m --json r.json --fingerprint f.txt %s", closed[i]);
        in_bash(&run, folder, line);
        CHECK(run.exit_code == 0);
        program_free(&run);
        snprintf(line, sizeof line, "%s/r.json", folder);
        json_error_t error;
        json_t *report = json_load_file(line, 0, &error);
        EXPECT(json_is_object(report));
        json_decref(report);
        EXPECT(program_count_entries(folder) == 4);
    }
}

/* nohup, and a script's jobs in the background: what was ignored stays ignored. */
TEST(ignored_signals_stay_ignored)
{
    static const char *const signals[] = {"HUP", "INT", "TERM"};
    for (int i = 0; i < 3; i++) {
        char line[2048];
        char name[32];
        program_run run;
        snprintf(name, sizeof name, "ignored%d", i);
        test_parameters("SIG%s", signals[i]);
        snprintf(line, sizeof line,
                 "trap '' %s; '" SKY_TEST_CONVERT "' --model_path '" DIFFUSERS
                 "' --output_path c --quiet & p=$!; " RENDER "--output x.y4m --quiet & q=$!; "
                 "for i in 1 2 3 4 5 6 7 8; do kill -%s $p $q 2>/dev/null; sleep 0.01; done; wait $p && wait $q",
                 signals[i], signals[i]);
        in_bash(&run, test_temp_path(name), line);
        CHECK(run.exit_code == 0);
        program_free(&run);
    }
}

/* Whatever ends a render, no temporary name stays: of pictures in a folder, too. */
TEST(signals_leave_no_temporary_names)
{
    static const char *const outputs[] = {"v.y4m", "v/"};
    static const char *const signals[] = {"INT", "TERM", "HUP"};
    for (int i = 0; i < 6; i++) {
        char line[2048];
        char name[32];
        program_run run;
        snprintf(name, sizeof name, "signalled%d", i);
        const char *folder = test_temp_path(name);
        test_parameters("SIG%s, %s", signals[i % 3], outputs[i / 3]);
        snprintf(
            line, sizeof line,
            "trap - INT; python3 -c 'import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); "
            "os.execv(sys.argv[1], sys.argv[1:])' '" SKY_TEST_PROGRAM "' --model_path '" DIFFUSERS
            "' --prompt x --seed 1 --threads 1 --quiet --height 96 --width 160 --num_frames 33 --inference_steps 500 "
            "--output %s --json r.json --fingerprint f.txt & p=$!; sleep 0.4; while kill -%s $p; do sleep 0.1; done "
            "2>/dev/null; wait $p; [ $? -gt 128 ]",
            outputs[i / 3], signals[i % 3]);
        in_bash(&run, folder, line);
        EXPECT(run.exit_code == 0);
        EXPECT(program_count_entries(folder) == 0);
        program_free(&run);
    }
}

TEST(paths_may_be_any_bytes)
{
    program_run run;
    json_error_t error;
    char path[1024];
    const char *folder = test_temp_path("bytes");
    in_bash(&run, folder,
            "ln -s '" DIFFUSERS "' $'mod\xe8le' && '" SKY_TEST_PROGRAM
            "' --model_path $'mod\xe8le' --prompt x --seed 1 "
            "--height 32 --width 32 --num_frames 5 --inference_steps 1 --output $'vid\xe9o.y4m' --json r.json --quiet");
    CHECK(run.exit_code == 0);
    program_free(&run);
    snprintf(path, sizeof path, "%s/r.json", folder);
    json_t *report = json_load_file(path, 0, &error);
    EXPECT(strcmp(json_string_value(json_object_get(report, "output")), "vid?o.y4m") == 0);
    EXPECT(strcmp(json_string_value(json_object_get(json_object_get(report, "settings"), "model")), "mod?le") == 0);
    json_decref(report);
    in_bash(&run, folder, RENDER "--output $'no\xe9where/x.y4m' --json r.json --quiet");
    EXPECT(run.exit_code == 74 && strstr(run.err, "no?where") != NULL);
    program_free(&run);
    report = json_load_file(path, 0, &error);
    EXPECT(strstr(json_string_value(json_object_get(report, "message")), "no?where") != NULL);
    json_decref(report);
}

/* What a prompt has that does not show is in no file's name. */
TEST(names_made_from_prompts_show)
{
    static const struct {
        const char *prompt, *name;
    } rows[] = {
        {"\\xef\\xbb\\xbfA red ball.\\r\\n", "A red ball._1.y4m"},
        {"\\x1b[31mred\\x07", "[31mred_1.y4m"},
        {"a\\xe2\\x80\\xaeb\\xe2\\x80\\x8bc\\xc2\\x9b", "abc_1.y4m"},
        {"\\xe2\\x80\\x8b.hidden", "_.hidden_1.y4m"},
        {"two\\nlines/", "two lines_1.y4m"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char line[2048];
        char name[32];
        char path[1024];
        program_run run;
        struct stat info;
        snprintf(name, sizeof name, "names%zu", i);
        const char *folder = test_temp_path(name);
        test_parameters("%s", rows[i].name);
        snprintf(line, sizeof line,
                 "printf '%s' >p.txt && '" SKY_TEST_PROGRAM "' --model_path '" DIFFUSERS
                 "' --prompt_file p.txt --seed 1 --height 32 --width 32 --num_frames 1 --inference_steps 1 --quiet && "
                 "rm p.txt && "
                 "for f in *.mp4; do [ -e \"$f\" ] && mv -- \"$f\" \"${f%%.mp4}.y4m\"; done; true",
                 rows[i].prompt);
        in_bash(&run, folder, line);
        CHECK(run.exit_code == 0);
        program_free(&run);
        snprintf(path, sizeof path, "%s/%s", folder, rows[i].name);
        EXPECT(stat(path, &info) == 0);
    }
}

TEST_MAIN
