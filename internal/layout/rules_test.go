package layout

const (
	modulePath = "github.com/persona-gguf/persona-gguf"
	nativePath = "github.com/go-skynet/go-llama.cpp" // the folder native, a module of its own

	llamaCommit = "7fe450e19305b828c199d602c23a8337aaa1f03b" // llama.cpp v0.5.0
	llamaTree   = "fd570ef54b10ec5fecb739e7e04c8ce44a6f415a"
)

// imports says for every package (by its folder) which packages of ours its
// code may import. Tests may import what they want. A package that is not
// here, or that is here and does not exist, fails the test.
var imports = map[string][]string{
	"gguf":                      {"internal/prefetch"},
	"safetensors":               {"internal/prefetch"},
	"native":                    {},
	"native/internal/tinymodel": {},

	"convert":     {"gguf", "lora", "quant", "safetensors", "native", "internal/atomicfile", "internal/pipe"},
	"lora":        {"native", "safetensors", "internal/atomicfile", "internal/pipe"},
	"quant":       {"gguf", "native", "internal/atomicfile", "internal/pipe"},
	"bench":       {"native", "internal/unit"},
	"persona":     {"native", "internal/strictyaml"},
	"pipeline":    {"convert", "deploy", "deploy/vtuber", "eval", "gen", "gen/check", "gen/engine", "gen/parse", "gen/prompt", "gen/sft", "gguf", "lora", "native", "persona", "quant", "train", "internal/atomicfile", "internal/strictyaml", "internal/filehash"},
	"eval":        {"gen/check", "gen/engine", "gguf", "internal/batch", "internal/pipe", "native", "persona", "quant", "internal/filehash", "internal/htmlpage"},
	"gen":         {"gen/check", "gen/engine", "gen/journal", "gen/parse", "gen/prompt", "gen/raw", "persona", "internal/atomicfile", "internal/minhash", "internal/filehash"},
	"gen/check":   {"gen/sft", "internal/htmlpage", "internal/minhash", "internal/pipe", "persona"},
	"gen/engine":  {"native", "internal/batch"},
	"gen/fixture": {},
	"gen/journal": {},
	"gen/parse":   {"gen/raw", "internal/atomicfile", "persona"},
	"gen/prompt":  {},
	"gen/raw":     {"internal/pipe"},
	"gen/sft":     {"convert", "gen/parse", "gen/raw", "gguf", "native", "persona", "internal/atomicfile", "internal/minhash", "internal/pipe"},
	"train":       {"persona", "safetensors", "internal/atomicfile", "internal/meminfo", "internal/unit", "internal/filehash"},

	"cmd/persona-gguf": {"bench", "convert", "deploy", "deploy/vtuber", "eval", "gen", "gen/check", "gen/engine", "gen/journal", "gen/parse", "gen/prompt", "gen/raw", "gen/sft", "gguf", "lora", "native", "persona", "pipeline", "quant", "safetensors", "train", "internal/atomicfile", "internal/chat", "internal/checkup", "internal/progress", "internal/summary", "internal/unit"},
	"deploy/vtuber":    {"persona", "internal/atomicfile", "internal/yamledit"},
	"deploy":           {"gguf", "native", "persona", "internal/atomicfile", "internal/unit"},

	"internal/atomicfile":      {"internal/meminfo", "internal/writebehind"},
	"internal/batch":           {"native"},
	"internal/chat":            {"native"},
	"internal/checkup":         {"native", "train", "internal/atomicfile", "internal/meminfo"},
	"internal/directio":        {},
	"internal/dist":            {},
	"internal/fakellm":         {},
	"internal/layout":          {},
	"internal/filehash":        {},
	"internal/htmlpage":        {},
	"internal/meminfo":         {},
	"internal/minhash":         {},
	"internal/ollama":          {},
	"internal/ollama/build":    {"internal/ollama"},
	"internal/pipe":            {},
	"internal/prefetch":        {"internal/directio"},
	"internal/progress":        {"internal/unit"},
	"internal/strictyaml":      {},
	"internal/summary":         {"gguf", "safetensors"},
	"internal/testmodel":       {"gguf", "safetensors", "internal/atomicfile"},
	"internal/testmodel/write": {"internal/testmodel"},
	"internal/unit":            {},
	"internal/writebehind":     {"internal/directio"},
	"internal/yamledit":        {},

	"bench/client":                {"gen", "gen/engine", "gen/prompt", "internal/fakellm", "internal/ollama", "persona"},
	"bench/data":                  {"bench/figure"},
	"bench/figure":                {},
	"bench/inference":             {"bench/figure", "native", "internal/batch"},
	"bench/kernels":               {"bench/figure", "native"},
	"bench/record":                {"bench/figure", "native"},
	"bench/scale":                 {"bench/figure", "internal/meminfo"},
	"examples/snow_white":         {},
	"examples/snow_white/sft":     {"persona"},
	"examples/snow_white/teacher": {"gen", "gen/engine", "gen/prompt", "persona"},
}

// notOurs are folders that hold no code of this repository.
var notOurs = []string{".git", ".cache", "bin", "build", "dist", "llamacpp"}

// cgoFolder is the only place for import "C", unsafe and go:linkname.
const cgoFolder = "native"

// badPackageNames say nothing about what is inside.
var badPackageNames = []string{"util", "utils", "common", "helpers", "helper", "types", "misc", "base", "shared", "lib"}

// Limits of length, in lines. Data tables may be longer: they are listed with the reason.
const (
	maxFileLines     = 450
	maxFunctionLines = 70
)

// longFiles and longFunctions (FILE:NAME) may be longer than the limits, for the reason given.
var (
	longFiles     = map[string]string{}
	longFunctions = map[string]string{}
)

// openWords mark unfinished work. They are split here so that this file does not contain them.
var openWords = []string{"TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"}

// textFiles are the endings of the files that are searched for them.
var textFiles = []string{".go", ".sh", ".c", ".h", ".cpp", ".cu", ".py", ".md", ".yml", ".yaml", ".toml", ".txt"}

// forbidden are selectors (package.name) that libraries may not use: they never
// print, exit, or read flags. Commands (package main) may.
var forbidden = []string{
	"fmt.Print", "fmt.Printf", "fmt.Println", "os.Stdout", "os.Stderr", "os.Exit", "os.Args",
	"log.Print", "log.Printf", "log.Println", "log.Fatal", "log.Fatalf", "log.Fatalln", "log.Panic", "log.Panicf",
}

// forbiddenImports are for commands only.
var forbiddenImports = []string{"flag", "github.com/spf13/pflag", "github.com/spf13/cobra"}

// forbiddenInTests make a test pass without testing, or depend on the machine.
var forbiddenInTests = []string{".Skip", ".Skipf", ".SkipNow", "testing.Short", "os.Getenv", "os.LookupEnv"}
