package llama_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	originalPath    = "github.com/go-skynet/go-llama.cpp"
	originalVersion = "v0.0.0-20240314183750-6a8041ef6b46"
	// originalNames is what the original exports: 5 types, 55 struct fields,
	// 48 functions, 12 variables, 10 methods.
	originalNames = 130
)

// TestAPIKeepsEveryName compares what this package exports with what the
// original exports. Ours may export more; nothing may be missing or different.
func TestAPIKeepsEveryName(t *testing.T) {
	want := exportedAPI(t, originalDir(t))
	got := exportedAPI(t, ".")
	if len(want) != originalNames {
		t.Errorf("original's exported names: got %d, want %d", len(want), originalNames)
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		switch g, ok := got[name]; {
		case !ok:
			t.Errorf("%s: missing: want %s", name, want[name])
		case g != want[name]:
			t.Errorf("%s: got %s, want %s", name, g, want[name])
		}
	}
}

// TestAPIKeepsFieldOrderAndDefaults compares the two option structs field by
// field in order (unkeyed literals and conversions depend on it) and the two
// default values.
func TestAPIKeepsFieldOrderAndDefaults(t *testing.T) {
	want, got := parsePackage(t, originalDir(t)), parsePackage(t, ".")
	for _, name := range []string{"ModelOptions", "PredictOptions"} {
		w, g := structFields(want, name), structFields(got, name)
		if len(w) == 0 || !slices.Equal(w, g) {
			t.Errorf("fields of %s: got %q, want %q", name, g, w)
		}
	}
	for _, name := range []string{"DefaultModelOptions", "DefaultOptions"} {
		w, g := literalFields(want, name), literalFields(got, name)
		if len(w) == 0 || !maps.Equal(w, g) {
			t.Errorf("%s: got %v, want %v", name, g, w)
		}
	}
}

// TestAPIComparisonSeesDifferences runs the comparison's reader on two small
// packages that differ in every way that must be seen.
func TestAPIComparisonSeesDifferences(t *testing.T) {
	read := func(src string) map[string]string {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "a.go"), []byte("package p\n"+src), 0o644); err != nil {
			t.Fatal(err)
		}
		return exportedAPI(t, dir)
	}
	got := read(`
type T struct { A, B int; c bool }
type F func(x *T)
var V F = nil
func New(name string, opts ...F) (*T, error) { return nil, nil }
func (t *T) M(a, b int) (n int32, err error) { return 0, nil }
func (t T) hidden() {}
func (t T) Value() {}
type lower struct{ X int }
func (l lower) Seen() {}
`)
	want := map[string]string{
		"T": "type struct", "T.A": "field int", "T.B": "field int",
		"F": "type func(*T)", "V": "var F",
		"New":     "func(string, ...F) (*T, error)",
		"T.M":     "method (*T) func(int, int) (int32, error)",
		"T.Value": "method (T) func()",
	}
	if !maps.Equal(got, want) {
		t.Errorf("exported API: got %v, want %v", got, want)
	}
}

// originalDir fetches the original module, as any program that requires it
// would, and returns its folder in the module cache.
func originalDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module fetch\n\ngo 1.26\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "mod", "download", "-json", originalPath+"@"+originalVersion)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var module struct{ Dir, Error string }
	if jsonErr := json.Unmarshal(out, &module); err != nil || jsonErr != nil || module.Error != "" || module.Dir == "" {
		t.Fatalf("go mod download %s@%s: %v: %s %s", originalPath, originalVersion, err, module.Error, stderr.Bytes())
	}
	return module.Dir
}

// parsePackage parses the Go files of one folder, tests left out. Comments,
// and with them cgo's preamble, are not needed.
func parsePackage(t *testing.T, dir string) []*ast.File {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no Go files in %s: %v", dir, err)
	}
	var files []*ast.File
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	return files
}

// exportedAPI maps every exported name of the package in dir ("Name", or
// "Type.Name" for fields and methods) to its kind and type.
func exportedAPI(t *testing.T, dir string) map[string]string {
	t.Helper()
	api := map[string]string{}
	for _, f := range parsePackage(t, dir) {
		for _, decl := range f.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				addFunc(api, d)
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					addSpec(api, d.Tok, spec)
				}
			}
		}
	}
	return api
}

func addFunc(api map[string]string, d *ast.FuncDecl) {
	if !d.Name.IsExported() {
		return
	}
	if d.Recv == nil {
		api[d.Name.Name] = typeString(d.Type)
		return
	}
	recv := types.ExprString(d.Recv.List[0].Type)
	if base := strings.TrimPrefix(recv, "*"); ast.IsExported(base) {
		api[base+"."+d.Name.Name] = fmt.Sprintf("method (%s) %s", recv, typeString(d.Type))
	}
}

func addSpec(api map[string]string, tok token.Token, spec ast.Spec) {
	switch s := spec.(type) {
	case *ast.ValueSpec:
		for _, name := range s.Names {
			if name.IsExported() {
				kind := tok.String()
				if s.Type != nil {
					kind += " " + typeString(s.Type)
				}
				api[name.Name] = kind
			}
		}
	case *ast.TypeSpec:
		if !s.Name.IsExported() {
			return
		}
		st, ok := s.Type.(*ast.StructType)
		if !ok {
			api[s.Name.Name] = "type " + typeString(s.Type)
			return
		}
		api[s.Name.Name] = "type struct"
		for _, field := range st.Fields.List {
			for _, name := range field.Names {
				if name.IsExported() {
					api[s.Name.Name+"."+name.Name] = "field " + typeString(field.Type)
				}
			}
		}
	}
}

// typeString writes a type without the names of parameters and results.
func typeString(e ast.Expr) string {
	fn, ok := e.(*ast.FuncType)
	if !ok {
		return types.ExprString(e)
	}
	list := func(fields *ast.FieldList) []string {
		var out []string
		if fields == nil {
			return out
		}
		for _, f := range fields.List {
			for range max(1, len(f.Names)) {
				out = append(out, typeString(f.Type))
			}
		}
		return out
	}
	s := "func(" + strings.Join(list(fn.Params), ", ") + ")"
	switch results := list(fn.Results); len(results) {
	case 0:
		return s
	case 1:
		return s + " " + results[0]
	default:
		return s + " (" + strings.Join(results, ", ") + ")"
	}
}

// structFields lists the exported fields of a struct type, "Name type", in
// order.
func structFields(files []*ast.File, name string) []string {
	var out []string
	eachSpec(files, func(spec ast.Spec) {
		s, ok := spec.(*ast.TypeSpec)
		if !ok || s.Name.Name != name {
			return
		}
		for _, field := range s.Type.(*ast.StructType).Fields.List {
			for _, n := range field.Names {
				out = append(out, n.Name+" "+typeString(field.Type))
			}
		}
	})
	return out
}

// literalFields reads the composite literal that a variable is declared with.
// Fields with their zero value are left out, and 1.0 is written 1.
func literalFields(files []*ast.File, name string) map[string]string {
	out := map[string]string{}
	eachSpec(files, func(spec ast.Spec) {
		s, ok := spec.(*ast.ValueSpec)
		if !ok || s.Names[0].Name != name {
			return
		}
		for _, e := range s.Values[0].(*ast.CompositeLit).Elts {
			kv := e.(*ast.KeyValueExpr)
			value := strings.TrimSuffix(types.ExprString(kv.Value), ".0")
			if value != "0" && value != "false" {
				out[types.ExprString(kv.Key)] = value
			}
		}
	})
	return out
}

func eachSpec(files []*ast.File, visit func(ast.Spec)) {
	for _, f := range files {
		for _, decl := range f.Decls {
			if d, ok := decl.(*ast.GenDecl); ok {
				for _, spec := range d.Specs {
					visit(spec)
				}
			}
		}
	}
}
