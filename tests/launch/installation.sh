#!/usr/bin/env bash
# An installation, from a build folder or as it is on this machine: works from anywhere, and its pages say what the program says.
#
#   installation.sh --build FOLDER [--zsh]    installs into a temporary folder, twice: to a prefix, and staged (DESTDIR)
#   installation.sh --prefix PREFIX           takes what is installed there (tests/launch/package.sh, in a bare system)
#
# --zsh drives zsh's completion too, where zsh is there.
set -eu

build="" prefix="" zsh=0
while [ $# -gt 0 ]; do
    case "$1" in
        --build) build=$(cd "$2" && pwd); shift ;;
        --prefix) prefix=$2; shift ;;
        --zsh) zsh=1 ;;
        *) echo "installation.sh: unknown option $1" >&2; exit 2 ;;
    esac
    shift
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAIL: $*" >&2; exit 1; }

if [ -n "$build" ]; then
    # The first is moved away from where it was installed: nothing may remember that place.
    cmake --install "$build" --prefix "$work/first" >"$work/log" || fail "cmake --install: $(tail -n 3 "$work/log")"
    mv "$work/first" "$work/moved here"
    prefix="$work/moved here"
    DESTDIR="$work/staged" cmake --install "$build" --prefix /opt/cadvlm >"$work/log" || fail "DESTDIR: $(tail -n 3 "$work/log")"
    (cd "$prefix" && find . | sort) >"$work/a"
    (cd "$work/staged/opt/cadvlm" && find . | sort) >"$work/b"
    cmp -s "$work/a" "$work/b" || fail "a staged installation has other files: $(diff "$work/a" "$work/b" | head -n 3)"
fi
cadvlm="$prefix/bin/cadvlm"

# ---- pages ----

[ -f "$prefix/share/man/man1/cadvlm.1" ] || fail "no man page"
sed 's/\\-/-/g' "$prefix/share/man/man1/cadvlm.1" >"$work/man"
commands=$("$cadvlm" --help | sed -n 's/^  \([a-z][a-z ]*[a-z]\)   *[A-Z].*/\1/p')
[ "$(echo "$commands" | wc -l)" -ge 17 ] || fail "cadvlm --help lists only: $commands"
count=0
while read -r command; do
    # shellcheck disable=SC2086  # two words
    "$cadvlm" $command --help >"$work/help"
    grep -q "^\.B cadvlm $command\$" "$work/man" || fail "the man page has no $command"
    # What the page has from the command to the next one.
    sed -n "/^\.SS \"cadvlm $command\"/,/^\.S[SH] /p" "$work/man" >"$work/section"
    for option in $(grep -oE '^  (-[a-z], )?--[a-z-]+' "$work/help" | tr -d ,); do
        count=$((count + 1))
        case $option in --*) sign="=" ;; *) sign="\\+" ;; esac # between it and its value, for zsh
        grep -qF "\\fB$option\\fR" "$work/section" || fail "the man page of $command lacks $option"
        grep -E "\"$command ?\"\*?\) options=" "$prefix/share/bash-completion/completions/cadvlm" | grep -qE "[\" ]${option}[\" ]" ||
            fail "bash's completion of $command lacks $option"
        sed -n "/^ *'$command *'\**)/,/;;/p" "$prefix/share/zsh/site-functions/_cadvlm" | grep -qE "'\*?${option}${sign}?\[" ||
            fail "zsh's completion of $command lacks $option"
    done
done <<<"$commands"
[ $count -gt 100 ] || fail "only $count options were looked for"
for part in NAME SYNOPSIS COMMANDS '"EXIT STATUS"' ENVIRONMENT FILES EXAMPLES; do
    grep -qxF ".SH $part" "$work/man" || fail "the man page has no $part"
done
if command -v groff >/dev/null; then
    said=$(groff -man -Tutf8 -ww "$prefix/share/man/man1/cadvlm.1" 2>&1 >/dev/null | head -n 3)
    [ -z "$said" ] || fail "the man page: $said"
fi

# ---- completion ----

# complete WORD…: what bash offers for the last word
complete_words() {
    PATH="$prefix/bin:$PATH" bash -c '
        source "$1"; shift
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
        _cadvlm 2>/dev/null
        printf "%s\n" "${COMPREPLY[@]}"' - "$prefix/share/bash-completion/completions/cadvlm" "$@"
}
offers() {
    wanted=$1
    shift
    complete_words "$@" | grep -qxF -- "$wanted" || fail "bash does not offer $wanted behind: $*"
}
refuses() {
    unwanted=$1
    shift
    if complete_words "$@" | grep -qxF -- "$unwanted"; then fail "bash offers $unwanted behind: $*"; fi
}
offers cad cadvlm ""
offers train cadvlm tr
offers train cadvlm --verbose tr
offers score cadvlm --verbose cad s
refuses cad cadvlm tr
offers score cadvlm cad s
refuses synth cadvlm cad s
offers --dims cadvlm cad draw part.py --d
refuses --dims cadvlm cad run part.py --d
offers demo cadvlm train --config de
offers demo cadvlm train --config = de # as bash takes --config=de apart
offers demo cadvlm train --config =
refuses demo cadvlm eval --checkpoint de
offers openecad_0.89b cadvlm train -c openecad_0.8
offers training.max_steps= cadvlm train --config demo training.max_st
refuses training.max_steps= cadvlm eval training.max_st
refuses training.max_steps= cadvlm train seed = training.max_st
refuses base_model= cadvlm train --learning-rate ""
mkdir "$work/presets"
touch "$work/presets/my own.yaml"
CADVLM_PRESETS="$work/presets" offers "my own" cadvlm train --config my
touch "$work/part.py"
(cd "$work" && offers part.py cadvlm cad run par && offers part.py cadvlm cad draw x -o par) || exit 1
if [ $zsh = 1 ]; then
    command -v zsh >/dev/null || fail "no zsh here"
    # shellcheck disable=SC2016  # for zsh
    PATH="$prefix/bin:$PATH" TERM=dumb PAGES="$prefix/share/zsh/site-functions" zsh -f -c '
        zmodload zsh/zpty
        zpty z "zsh -f -i"
        zpty -w z "fpath=(\$PAGES \$fpath); autoload -U compinit; compinit -u -D; PS1=; print ready"
        for i in {1..100}; do zpty -r -t z line && said+=$line; [[ $said == *ready$'"'\r'"'* ]] && break; sleep 0.1; done
        zpty -w -n z "cadvlm cad sc"$'"'\t'"'
        for i in {1..100}; do zpty -r -t z line && said+=$line; [[ $said == *"cad score"* ]] && exit 0; sleep 0.1; done
        exit 1' || fail "zsh does not complete cadvlm cad sc"
fi

# ---- the program, from another folder ----

mkdir "$work/elsewhere"
cd "$work/elsewhere"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
"$cadvlm" --version >/dev/null || fail "--version"
cat >block.py <<'PART'
SketchPlane0 = add_sketchplane(origin=[0, 0, 0], normal=[0, 0, 1], x_axis=[1, 0, 0])
Loops0 = []
Curves0_0 = []
Line0_0_0 = add_line(start=[0, 0], end=[30, 0])
Curves0_0.append(Line0_0_0)
Line0_0_1 = add_line(start=[30, 0], end=[30, 20])
Curves0_0.append(Line0_0_1)
Line0_0_2 = add_line(start=[30, 20], end=[0, 20])
Curves0_0.append(Line0_0_2)
Line0_0_3 = add_line(start=[0, 20], end=[0, 0])
Curves0_0.append(Line0_0_3)
Loop0_0 = add_loop(Curves0_0)
Loops0.append(Loop0_0)
Profile0 = add_profile(Loops0)
Sketch0 = add_sketch(sketch_plane=SketchPlane0, profile=Profile0)
Extrude0 = add_extrude(sketch=Sketch0, operation=0, type=0, extent_one=10, extent_two=0)
PART
"$cadvlm" cad run block.py -o block.step --json | grep -q '"volume": *6000' || fail "cad run: a block of 30 × 20 × 10 has no volume of 6000"
grep -q ISO-10303-21 block.step || fail "cad run wrote no STEP file"
"$cadvlm" data synth shards --count 24 --val 0.2 --seed 1 --workers 1 >/dev/null 2>synth.log || fail "data synth: $(tail -n 2 synth.log)"
"$cadvlm" data tokenizer shards -o tokenizer.json --vocab 600 --numbers 100 >/dev/null || fail "data tokenizer"
train() { # FOLDER PROGRAM…
    run=$1
    shift
    "$@" train --config demo train_data=shards tokenizer=tokenizer.json output_dir="$run" training.max_steps=2 training.eval_samples=2 \
        training.per_device_batch_size=2 device=cpu precision=f32 threads=1 >train.log 2>&1 || fail "$*: $(tail -n 3 train.log)"
}
train run1 "$cadvlm"
if command -v mpirun >/dev/null; then
    train run2 mpirun --oversubscribe -n 2 "$cadvlm"
    losses() { grep -o '"loss":[^,}]*' "$1/metrics.jsonl"; }
    [ "$(losses run1)" = "$(losses run2)" ] || fail "one rank and two have other losses"
fi
"$cadvlm" report run1 -o report.html >/dev/null || fail "report"
echo "installed and used: $count options of $(echo "$commands" | wc -l) commands on all pages"
