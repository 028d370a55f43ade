#!/usr/bin/env bash
# Formats the tree with clang-format (or, with --check, only says what is not formatted).
set -eu
cd "$(dirname "$0")/.."
files=$(git ls-files --cached --others --exclude-standard '*.c' '*.h' '*.cpp' '*.cu' '*.cuh')
program=$(command -v clang-format-14 || echo clang-format)
if [ "${1:-}" = --check ]; then
    exec "$program" --dry-run --Werror $files
fi
exec "$program" -i $files
