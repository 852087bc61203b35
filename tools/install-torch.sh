#!/bin/sh
# Installs torch with the given Python: a CPU build where there is no NVIDIA GPU, so that no CUDA libraries are pulled.
# A CPU build names itself "+cpu". Where pip's own configuration offers one, pip takes it; elsewhere uv, which knows
# PyTorch's indexes by the machine's hardware, does.
set -eu
python=$1
wanted='torch==2.13.0'

"$python" -c 'import torch' 2>/dev/null && exit 0
if [ "$(uname -s)-$(uname -m)" != "Linux-x86_64" ]; then
    exec "$python" -m pip install --quiet "$wanted" # PyPI's builds for other machines carry no CUDA libraries
fi
if ! command -v nvidia-smi >/dev/null 2>&1 &&
    "$python" -m pip install --quiet --dry-run --no-deps "$wanted+cpu" >/dev/null 2>&1; then
    exec "$python" -m pip install --quiet "$wanted+cpu"
fi
"$python" -m pip install --quiet uv
exec "$python" -m uv pip install --quiet --python "$python" --torch-backend=auto "$wanted"
