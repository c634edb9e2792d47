#!/usr/bin/env bash
# setup.sh FOLDER: make the environment of the peers there. A peer that cannot be had is left out, and the benchmark says so.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
home=${1:?usage: setup.sh FOLDER}

[ -x "$home/bin/python" ] || "${PYTHON:-python3}" -m venv "$home"
while read -r -a packages; do
    [[ ${#packages[@]} -eq 0 || ${packages[0]} == \#* ]] && continue
    echo "installing ${packages[*]}"
    "$home/bin/python" -m pip install --quiet --disable-pip-version-check "${packages[@]}" ||
        echo "left out: ${packages[*]}" >&2
done <"$here/requirements.txt"

# oneDNN is a C++ library: five C functions around it make it callable.
if [ -f "$home/include/oneapi/dnnl/dnnl.hpp" ]; then
    "${CXX:-g++}" -std=c++17 -O2 -shared -fPIC "$here/onednn.cpp" -I"$home/include" -L"$home/lib" -l:libdnnl.so.3 \
        -Wl,-rpath,'$ORIGIN' -o "$home/lib/libonednn_call.so" || echo "left out: oneDNN (it needs a C++ compiler)" >&2
fi
