#!/usr/bin/env bash
# Makes the virtual environment that the reference tools run in: Hugging Face transformers, PEFT,
# tokenizers, SentencePiece and Pillow at the pinned versions of requirements.txt (about 4 GB).
# Nothing of the trainer or of its tests needs it: the golden files it makes are in the tree.
#
#   tools/reference/env.sh [FOLDER]        FOLDER: default build/reference-env
#
# Needs Python 3.11 (torch 2.0.1 knows no newer); PYTHON names it if it is not on the path.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-$here/../../build/reference-env}
python=${PYTHON:-python3.11}

if ! "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
    echo "env.sh: '$python' is not Python 3.11; set PYTHON to one" >&2
    exit 1
fi
if [ ! -x "$folder/bin/pip" ]; then
    "$python" -m venv "$folder"
fi
"$folder/bin/pip" install --quiet --no-deps --no-cache-dir --requirement "$here/requirements.txt"
"$folder/bin/python" - <<'PYTHON'
import peft, PIL, sentencepiece, tokenizers, torch, transformers
for package in (torch, transformers, peft, tokenizers, sentencepiece, PIL):
    print(f"{package.__name__} {package.__version__}")
PYTHON
echo "ready: $folder/bin/python"
