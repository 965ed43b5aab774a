#!/usr/bin/env bash
# persona-gguf: everything that has to happen before, around and after `go build`.
# Run ./build.sh help for the commands. Each can be run again at any time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
ROOT=$PWD
export CCACHE_BASEDIR=$ROOT CCACHE_NOHASHDIR=1 # so that ccache, where it is installed, serves other checkouts too

LLAMA_COMMIT=7fe450e19305b828c199d602c23a8337aaa1f03b # ggml-org/llama.cpp v0.5.0
LLAMA_TREE=fd570ef54b10ec5fecb739e7e04c8ce44a6f415a
LLAMA_NPM=node-llama-cpp@3.22.1 # carries the same tree as a git bundle
GO_MIN=1.26
REFERENCE_TOOLS=(llama-quantize llama-bench llama-imatrix)
BENCH_TOOLS=(llama-batched-bench) # built for ./build.sh bench only
# What the reference converter and PEFT's merge run on (llama.cpp's requirements, PEFT of train/trainer.py).
REFERENCE_PACKAGES=(torch transformers==4.57.6 peft==0.21.0 'numpy~=2.2.6' 'sentencepiece>=0.1.98,<0.3.0' 'protobuf>=4.21,<5')
RPATH='$ORIGIN;$ORIGIN/../lib;$ORIGIN/../build/lib'
# The C++ runtime travels with dist, so that the target machine needs no toolchain.
RUNTIME_LIBS=(libgomp.so.1 libstdc++.so.6 libgcc_s.so.1)

usage() {
	cat <<'USAGE'
usage: ./build.sh [COMMAND]

  build        llama.cpp for this machine's CPU and bin/persona-gguf (the default)
  demo         build, then go the whole way of the Snow White example in build/demo/
  test         build, dist, then every test of both Go modules
  bench [ARGS] every comparison with the reference tools on this machine, written to docs/benchmarks.md
               (-shapes 0.6b,1.7b,4b,8b  -sections kernels,convert,cold,slow,inference,data; -help lists all)
  dist         a tarball in dist/ that runs on any machine of this architecture
  cuda [DIR]   the CUDA backend only, into the build or into the unpacked dist DIR
               (CUDA_ARCH=90 ./build.sh cuda; default: the GPU of this machine)
  clean        remove build/, bin/, dist/ and .cache/ (llamacpp/ stays)
USAGE
}

main() {
	local command=${1:-build}
	[ $# -eq 0 ] || shift
	case $command in
	build) cmd_build ;;
	demo)
		cmd_build
		cmd_demo
		;;
	test)
		cmd_build
		cmd_dist
		cmd_test
		;;
	dist)
		cmd_build
		cmd_dist
		;;
	bench)
		cmd_build
		cmd_bench "$@"
		;;
	cuda) cmd_cuda "$@" ;;
	clean) cmd_clean ;;
	help | -h | --help) usage ;;
	*)
		usage >&2
		die "unknown command: $command"
		;;
	esac
}

# ---- messages and steps ----------------------------------------------------------------

die() {
	printf 'build.sh: error: %s\n' "$1" >&2
	[ $# -lt 2 ] || printf 'hint: %s\n' "$2" >&2
	exit $EXPLAINED
}

EXPLAINED=9 # the exit status of an error whose message has been printed

# strict COMMAND...: run in a subshell that stops at the first failure; the status is in $rc.
# (Behind || or && bash switches `set -e` off for everything inside.)
strict() {
	set +e
	(
		set -e
		"$@"
	)
	rc=$?
	set -e
}

# step NAME COMMAND...: run quietly, say how long it took; the log is shown only on failure.
step() {
	local name=$1 log start rc=0
	shift
	mkdir -p build/log
	log=build/log/$(tr -c 'a-zA-Z0-9\n' '-' <<<"$name").log
	printf '==> %s\n' "$name"
	start=$(now_ms)
	strict "$@" >"$log" 2>&1
	if [ $rc -ne 0 ]; then
		tail -n 80 "$log" >&2
		die "$name: failed with status $rc" "the whole log is $log"
	fi
	report_time "$start"
}

# show NAME COMMAND...: like step, for commands whose output is the point.
show() {
	local name=$1 start rc=0
	shift
	printf '==> %s\n' "$name"
	start=$(now_ms)
	strict "$@"
	[ $rc -ne $EXPLAINED ] || exit $EXPLAINED
	[ $rc -eq 0 ] || die "$name: failed with status $rc"
	report_time "$start"
}

now_ms() { date +%s%3N; }

report_time() {
	local ms=$(($(now_ms) - $1))
	printf '    done in %d.%d s\n' $((ms / 1000)) $((ms % 1000 / 100))
}

# ---- tools -----------------------------------------------------------------------------

# need TOOL=PACKAGE...: every tool on PATH; what is missing is installed with apt when we may.
need() {
	local pair missing=()
	for pair in "$@"; do
		command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
		step "install ${missing[*]}" apt_install "${missing[@]}"
	else
		die "missing tools: ${missing[*]} (Debian's package names)" "sudo apt-get install ${missing[*]}"
	fi
}

apt_install() {
	apt-get -q update
	DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends "$@"
}

need_go() {
	command -v go >/dev/null || die "Go is missing: got none, want $GO_MIN or newer" "install Go $GO_MIN and put it on PATH"
	local have
	have=$(go env GOVERSION)
	have=${have#go}
	[ "$(printf '%s\n' "$GO_MIN" "$have" | sort -V | head -n 1)" = "$GO_MIN" ] ||
		die "Go is too old: got $have, want $GO_MIN or newer" "install Go $GO_MIN and put it on PATH"
}

# ---- llama.cpp's source ----------------------------------------------------------------

# source_tree DIR: the git tree hash of DIR's content; empty when DIR holds no source.
source_tree() {
	local dir=$1
	[ -e "$dir/CMakeLists.txt" ] || return 0
	if [ -e "$dir/.git" ]; then
		git_in "$dir" rev-parse --verify -q 'HEAD^{tree}' || true
		return 0
	fi
	local scratch
	scratch=$(mktemp -d "$ROOT/.cache/tree.XXXXXX") # a source archive without .git: hash its files
	git init -q --bare "$scratch"
	git --git-dir="$scratch" --work-tree="$dir" add -A -f .
	git --git-dir="$scratch" write-tree
	rm -rf "$scratch"
}

# git_in DIR: git for reading a checkout, whoever owns its files.
git_in() {
	local dir=$1
	shift
	git -c safe.directory='*' -C "$dir" "$@"
}

check_tree() {
	local where=$1 got=$2
	[ "$got" = "$LLAMA_TREE" ] || die "$where: wrong source tree: got ${got:-nothing}, want $LLAMA_TREE (llama.cpp v0.5.0)" \
		"remove llamacpp/ and run ./build.sh again"
}

fetch_llamacpp() {
	mkdir -p .cache
	[ ! -e .cache/fetch.submodule ] || undo_submodule # what a killed run may have left
	rm -rf .cache/fetch.* .cache/tree.*
	if [ -e llamacpp/CMakeLists.txt ]; then
		check_tree llamacpp "$(source_tree llamacpp)"
		local changed=
		[ ! -e llamacpp/.git ] || changed=$(git_in llamacpp status --porcelain --untracked-files=no | head -n 5)
		[ -z "$changed" ] || die "llamacpp: files differ from v0.5.0:"$'\n'"$changed" "git -C llamacpp checkout -- ."
		return
	fi
	if [ -d llamacpp ] && [ -n "$(ls -A llamacpp)" ]; then
		die "llamacpp: not empty, and not llama.cpp's source" "remove llamacpp/ and run ./build.sh again"
	fi
	show "fetch llama.cpp v0.5.0" fetch_any
	check_tree llamacpp "$(source_tree llamacpp)"
}

fetch_any() {
	fetch_submodule && return
	echo "    the submodule's server cannot be reached; trying the npm package $LLAMA_NPM"
	need npm=npm
	fetch_npm
}

# fetch_submodule: while .cache/fetch.submodule is there, llamacpp/ is half-made.
fetch_submodule() {
	[ -e .git ] || return 1
	touch .cache/fetch.submodule
	trap undo_submodule EXIT
	local rc=0
	GIT_TERMINAL_PROMPT=0 timeout --foreground 900 git -c http.lowSpeedLimit=1000 -c http.lowSpeedTime=30 \
		submodule update --init --depth 1 llamacpp >.cache/fetch.log 2>&1 || rc=1
	[ $rc -eq 0 ] || undo_submodule
	trap - EXIT
	rm -f .cache/fetch.submodule .cache/fetch.log
	return $rc
}

# undo_submodule leaves llamacpp/ as a fresh clone has it, empty and not initialized.
undo_submodule() {
	git submodule deinit -q -f llamacpp >/dev/null 2>&1 || true
	rm -rf "$(git rev-parse --git-path modules/llamacpp)" llamacpp
	mkdir llamacpp
	rm -f .cache/fetch.submodule .cache/fetch.log
}

# fetch_npm: clone the bundle beside its place, check it, then move it there in one rename.
fetch_npm() {
	local scratch
	scratch=$(mktemp -d .cache/fetch.XXXXXX)
	trap 'rm -rf "$ROOT/$scratch"' EXIT
	(cd "$scratch" && npm pack --silent "$LLAMA_NPM" >npm.log 2>&1) ||
		die "npm pack $LLAMA_NPM failed: $(tail -n 3 "$scratch/npm.log" | tr '\n' ' ')" "check the network, then run ./build.sh again"
	tar -xzf "$scratch"/*.tgz -C "$scratch" package/llama/gitRelease.bundle
	git -c advice.detachedHead=false clone -q "$scratch/package/llama/gitRelease.bundle" "$scratch/source"
	git -C "$scratch/source" remote remove origin
	check_tree "$LLAMA_NPM" "$(source_tree "$scratch/source")"
	[ ! -d llamacpp ] || rmdir llamacpp
	mv "$scratch/source" llamacpp
	# The bundle's commit is another than the recorded one: keep "git commit -a" from recording it.
	[ ! -e .git ] || git update-index --skip-worktree llamacpp 2>/dev/null || true
	rm -rf "$scratch"
	trap - EXIT
}

# ---- llama.cpp's build -----------------------------------------------------------------

# cpu_flags: ggml's options for the CPU of this machine. On x86-64 GGML_NATIVE cannot be used with
# GGML_BACKEND_DL, so the options are read off the kernel's list of CPU features.
cpu_flags() {
	if [ "$(uname -m)" != x86_64 ]; then
		echo -DGGML_NATIVE=ON
		return
	fi
	local have pair
	have=" $(grep -m1 '^flags' /proc/cpuinfo) "
	printf -- '-DGGML_NATIVE=OFF'
	for pair in sse4_2=SSE42 avx=AVX f16c=F16C fma=FMA avx2=AVX2 bmi2=BMI2 avx_vnni=AVX_VNNI avx512f=AVX512 \
		avx512vbmi=AVX512_VBMI avx512_vnni=AVX512_VNNI avx512_bf16=AVX512_BF16 amx_tile=AMX_TILE amx_int8=AMX_INT8; do
		case $have in
		*" ${pair%%=*} "*) printf -- ' -DGGML_%s=ON' "${pair#*=}" ;;
		*) printf -- ' -DGGML_%s=OFF' "${pair#*=}" ;;
		esac
	done
	echo
}

# cmake_tree NAME BUILD_DIR OPTION...: configure only when the options or this folder's place changed, and
# then afresh: cmake refuses the cache of a checkout that was moved.
cmake_tree() {
	local name=$1 dir=$2 apart=
	shift 2
	if [ "$(uname -m)" = aarch64 ]; then # products and sums stay apart: ggml's encoders give the bytes that they give on x86-64
		apart=-ffp-contract=off
		set -- -DCMAKE_C_FLAGS=$apart "$@"
	fi
	local options=(-G Ninja -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON -DGGML_BACKEND_DL=ON
		-DCMAKE_BUILD_WITH_INSTALL_RPATH=ON "-DCMAKE_INSTALL_RPATH=$RPATH"
		"-DCMAKE_CXX_FLAGS=${apart:+$apart }-include $(printf %q "$ROOT/native/kernels/tileconfig.h")"
		-DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_APP=OFF -DLLAMA_OPENSSL=OFF
		-DLLAMA_BUILD_IS_DEV=OFF "-DLLAMA_BUILD_COMMIT=$LLAMA_COMMIT" -DLLAMA_BUILD_NUMBER=0 "$@")
	local want="$ROOT ${options[*]}"
	if [ ! -e "$dir/build.ninja" ] || [ "$(cat "$dir/.options" 2>/dev/null)" != "$want" ]; then
		rm -rf "$dir/CMakeCache.txt" "$dir/CMakeFiles"
		step "$name: configure" cmake -S llamacpp -B "$dir" "${options[@]}"
		printf '%s' "$want" >"$dir/.options"
	fi
}

build_llamacpp() {
	local flags
	read -ra flags < <(cpu_flags)
	cmake_tree "llama.cpp" build/llama "${flags[@]}" \
		-DLLAMA_BUILD_TOOLS=ON
	step "llama.cpp: compile" cmake --build build/llama --target llama llama-common ggml "${REFERENCE_TOOLS[@]}"
	step "llama.cpp: install into build/lib and bin" install_llamacpp
}

install_llamacpp() {
	[ ! -L build/lib ] || rm build/lib
	mkdir -p build/lib bin
	cp -au build/llama/bin/*.so* build/lib/
	local tool
	for tool in "${REFERENCE_TOOLS[@]}"; do cp -au "build/llama/bin/$tool" bin/; done
	link_backends build/lib bin ../build/lib
}

# link_backends LIB BIN REL: ggml's own tools look for backend modules only beside themselves.
link_backends() {
	local lib=$1 bin=$2 rel=$3 file
	for file in "$lib"/libggml-*.so; do
		case ${file##*/} in libggml-base.so) continue ;; esac
		ln -sfn "$rel/${file##*/}" "$bin/${file##*/}"
	done
}

# go_program OUTPUT GO_FLAG...
go_program() {
	local out=$1
	shift
	CGO_ENABLED=1 go build -trimpath "$@" -ldflags "-X main.version=$(version)" -o "$out" ./cmd/persona-gguf
}

version() { git describe --tags --always --dirty 2>/dev/null || echo unknown; }

# ---- commands --------------------------------------------------------------------------

cmd_build() {
	need git=git cmake=cmake ninja=ninja-build c++=g++ tar=tar
	need_go
	fetch_llamacpp
	build_llamacpp
	step "persona-gguf: compile" go_program bin/persona-gguf
}

cmd_demo() {
	show "demo: from the card to a model (build/demo)" bin/persona-gguf run examples/snow_white/persona.yaml --root build/demo
	show "demo: the base model, as it was" bin/persona-gguf convert examples/snow_white/base --outtype q4_0 --outfile build/demo/models/base-q4_0.gguf
	show "demo: who are you?" demo_ask
	show "demo: tokens per second" bin/persona-gguf bench -m build/demo/models/snow_white-q4_0.gguf,build/demo/models/snow_white-f16.gguf -p 64 -n 64 -r 3
	echo "what was made is in build/demo; talk to her: bin/persona-gguf chat -m build/demo/models/snow_white-q4_0.gguf --persona examples/snow_white/persona.yaml"
}

# demo_ask: the base as the assistant that it was, and the persona as its card says.
demo_ask() {
	local question models=build/demo/models flags=(--temperature 0 --num_predict 64)
	for question in '너는 누구야?' '당신의 이름이 뭐예요?'; do
		printf '           %s\nbase       ' "$question"
		bin/persona-gguf chat -m $models/base-q4_0.gguf "${flags[@]}" -p "$question"
		printf 'snow_white '
		bin/persona-gguf chat -m $models/snow_white-q4_0.gguf --persona examples/snow_white/persona.yaml "${flags[@]}" -p "$question"
	done
}

# cmd_dist: every CPU variant of the CPU backend; ggml chooses the best one at run time.
cmd_dist() {
	local flags=(-DGGML_NATIVE=OFF -DGGML_CPU_ALL_VARIANTS=ON -DLLAMA_BUILD_COMMON=OFF -DLLAMA_BUILD_TOOLS=OFF)
	cmake_tree "CPU variants" build/variants "${flags[@]}"
	step "CPU variants: compile" cmake --build build/variants --target ggml
	step "persona-gguf: compile for dist" go_program build/persona-gguf-dist -tags dist
	step "dist: pack" pack_dist
	printf '    %s\n' dist/*.tar.gz
}

pack_dist() {
	local name stage file lib
	name=persona-gguf-linux-$(uname -m)
	stage=build/dist/$name
	rm -rf build/dist
	mkdir -p "$stage/bin" "$stage/lib" dist
	cp -a build/llama/bin/*.so* "$stage/lib/"
	rm -f "$stage"/lib/libggml-cpu*.so # this machine's variant
	cp -a build/variants/bin/libggml-cpu*.so "$stage/lib/"
	for lib in "${RUNTIME_LIBS[@]}"; do
		file=$(c++ -print-file-name="$lib")
		[ -e "$file" ] || die "dist: $lib not found" "install the compiler's runtime libraries"
		cp -L "$file" "$stage/lib/$lib"
	done
	cp build/persona-gguf-dist "$stage/bin/persona-gguf"
	for file in "${REFERENCE_TOOLS[@]}"; do cp "build/llama/bin/$file" "$stage/bin/"; done
	link_backends "$stage/lib" "$stage/bin" ../lib
	cp LICENSE README.md README.ko.md "$stage/"
	cp llamacpp/LICENSE "$stage/LICENSE.llama.cpp"
	tar -C build/dist -czf "dist/.$name.tar.gz" "$name"
	mv "dist/.$name.tar.gz" "dist/$name.tar.gz"
}

# cmd_bench ARG...: arguments are those of bench/record.
cmd_bench() {
	local tool args=("$@")
	step "reference tools: compile" cmake --build build/llama --target "${BENCH_TOOLS[@]}"
	cp -au build/llama/bin/*.so* build/lib/
	for tool in "${BENCH_TOOLS[@]}"; do cp -au "build/llama/bin/$tool" bin/; done
	case " $* " in
	*' -python'* | *' --python'* | *' -render '* | *' --render '* | *-help* | *' -h '*) ;;
	*)
		step "the reference's Python environment" reference_python
		args=(-python "$ROOT/.cache/reference/python/bin/python" "$@")
		;;
	esac
	show "bench: compare" go run ./bench/record "${args[@]}"
}

# reference_python: .cache/reference/python with the packages of the reference, by uv.
reference_python() {
	local dir=.cache/reference uv
	[ "$(cat "$dir/packages" 2>/dev/null)" != "${REFERENCE_PACKAGES[*]}" ] || return 0
	mkdir -p "$dir"
	uv=$(command -v uv || ls .cache/python/uv/bin/uv "$dir/uv/bin/uv" 2>/dev/null | head -n 1 || true)
	if [ -z "$uv" ]; then
		need python3=python3-venv
		python3 -m venv "$dir/uv"
		"$dir/uv/bin/python" -m pip install -q --disable-pip-version-check uv
		uv=$dir/uv/bin/uv
	fi
	export UV_CACHE_DIR=${UV_CACHE_DIR:-$ROOT/.cache/python/cache}
	"$uv" venv -q --clear "$dir/python"
	"$uv" pip install -q --python "$dir/python/bin/python" "${REFERENCE_PACKAGES[@]}"
	printf '%s' "${REFERENCE_PACKAGES[*]}" >"$dir/packages"
}

cmd_cuda() {
	local target=${1:-} nvcc lib=build/lib bin=bin rel=../build/lib
	if [ -n "$target" ]; then
		[ -d "$target/lib" ] || die "cuda: $target: not an unpacked dist: no lib folder in it"
		lib=$target/lib bin=$target/bin rel=../lib
	fi
	nvcc=${CUDACXX:-$(command -v nvcc || ls -d /usr/local/cuda*/bin/nvcc /opt/cuda/bin/nvcc 2>/dev/null | sort -V | tail -n 1 || true)}
	[ -n "$nvcc" ] || die "cuda: nvcc not found: the CUDA backend needs the CUDA toolkit" \
		"install the CUDA toolkit, or set CUDACXX=/path/to/nvcc; without a GPU nothing is missing"
	need git=git cmake=cmake ninja=ninja-build c++=g++
	fetch_llamacpp
	cmake_tree "CUDA backend" build/cuda -DLLAMA_BUILD_COMMON=OFF -DLLAMA_BUILD_TOOLS=OFF -DGGML_CPU=OFF -DGGML_CUDA=ON -DGGML_CUDA_NCCL=OFF \
		"-DCMAKE_CUDA_COMPILER=$nvcc" "-DCMAKE_CUDA_ARCHITECTURES=${CUDA_ARCH:-native}"
	step "CUDA backend: compile" cmake --build build/cuda --target ggml-cuda
	mkdir -p "$lib" "$bin"
	cp build/cuda/bin/libggml-cuda.so "$lib/"
	link_backends "$lib" "$bin" "$rel"
	printf '    %s/libggml-cuda.so\n' "$lib"
}

# FUZZ_TIME is the time per fuzz target of the test run.
cmd_test() {
	show "test: gofmt" check_gofmt
	show "test: go vet" on_both_modules go vet ./...
	show "test: the Ollama server that tests start" go run ./internal/ollama/build
	show "test: go test" on_both_modules go test -timeout 30m ./...
	show "test: go test -race" race_tests
	show "test: fuzz" fuzz_all "${FUZZ_TIME:-5s}"
	echo "all tests passed"
}

on_both_modules() {
	(cd native && "$@") && "$@"
}

check_gofmt() {
	local unformatted
	unformatted=$(git ls-files -z --cached --others --exclude-standard '*.go' | xargs -0 gofmt -l)
	[ -z "$unformatted" ] || die "gofmt: not formatted:"$'\n'"$unformatted" "gofmt -w FILE"
}

# race_tests: the packages with goroutines of their own. The runs that are killed everywhere are processes of their own.
race_tests() {
	(cd native && go test -race ./...) && go test -race -timeout 30m ./internal/pipe ./internal/atomicfile ./internal/batch ./internal/ollama ./convert ./quant ./eval ./gen/... &&
		go test -race -timeout 30m -skip TestKilledEverywhere ./pipeline
}

fuzz_all() {
	local time=$1 file name
	grep -rHoE '^func Fuzz[A-Za-z0-9_]+' --include='*_test.go' --exclude-dir=llamacpp . | sed 's/func //' | sort |
		while IFS=: read -r file name; do
			echo "    ${file%/*} $name"
			(cd "${file%/*}" && go test . -run '^$' -fuzz "^$name\$" -fuzztime "$time" -fuzzminimizetime 100x) >build/log/fuzz.log 2>&1 ||
				{ cat build/log/fuzz.log >&2 && exit 1; }
		done
}

cmd_clean() { rm -rf build bin dist .cache; }

main "$@"; exit # on one line: while it runs, this file may be replaced by another version
