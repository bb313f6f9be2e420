# Shared by the scripts in this folder: sourced, not run.
# shellcheck shell=bash disable=SC2034  # what is set here is used there

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# Prints the script's opening comment as its help.
print_help() {
    awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "$0"
}

# A command is shown as it could be typed again, then run.
show_and_run() {
    local word
    printf '  $'
    for word in "$@"; do
        case $word in
        '' | *[!A-Za-z0-9_./=:,+@-]*) printf ' %s' "${word@Q}" ;;
        *) printf ' %s' "$word" ;;
        esac
    done
    printf '\n'
    "$@"
}

# Microseconds of the wall clock; "12.3 s" of a difference of two.
now_us() {
    printf '%s' "${EPOCHREALTIME/[.,]/}"
}

seconds_since() {
    local tenths=$((($(now_us) - $1 + 50000) / 100000))
    printf '%d.%d s' $((tenths / 10)) $((tenths % 10))
}

# What mpirun needs on this machine: sets mpirun_options.
prepare_mpirun() {
    mpirun_options=()
    if [ "$(id -u)" = 0 ]; then
        # Open MPI refuses to run as root unless told twice that this is meant; in a container or on a fresh machine it is.
        export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    fi
    # The shared-memory transport's single copy needs ptrace rights that containers withhold; it then complains.
    export OMPI_MCA_btl_vader_single_copy_mechanism=none
    # Open MPI counts cores, not hardware threads, and refuses more ranks than that unless told.
    if [ "$(lscpu -p=CORE,SOCKET 2>/dev/null | grep -v '^#' | sort -u | wc -l)" -lt "$1" ] || [ "$(nproc)" -lt "$1" ]; then
        mpirun_options+=(--oversubscribe)
    fi
}
