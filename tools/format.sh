#!/usr/bin/env bash
# Formats the tree with clang-format (or, with --check, only says what is not formatted).
set -eu
cd "$(dirname "$0")/.."
files=$(git ls-files --cached --others --exclude-standard '*.c' '*.h' '*.cpp' '*.cu' '*.cuh')
if [ "${1:-}" = --check ]; then
    exec clang-format --dry-run --Werror $files
fi
exec clang-format -i $files
