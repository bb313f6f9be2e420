# shellcheck shell=bash
# Shared by the checks in this folder; they run with the top of the source tree as working directory.

# The project's files, one a line: what git tracks (and is still there), or all files where this is no git checkout.
project_files() {
    if git -c safe.directory="$PWD" rev-parse --is-inside-work-tree >/dev/null 2>&1; then
        git -c safe.directory="$PWD" ls-files -- "$@" | while IFS= read -r file; do
            if [ -f "$file" ]; then
                printf '%s\n' "$file"
            fi
        done
    else
        find . -name .git -prune -o \( -path './build*' -o -path ./out \) -prune -o -type f -print |
            sed 's|^\./||' | while IFS= read -r file; do
            for pattern in "$@"; do
                # shellcheck disable=SC2053  # the right side is a pattern on purpose
                if [[ $file == $pattern ]]; then
                    printf '%s\n' "$file"
                    break
                fi
            done
        done
    fi
}

skip() {
    echo "skipped: $*"
    exit 77
}
