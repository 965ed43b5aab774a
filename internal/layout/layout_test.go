package layout

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// source is one Go file of the repository.
type source struct {
	path string // relative to the root, with slashes
	test bool
	text []byte
	file *ast.File
	set  *token.FileSet
}

func (s *source) dir() string           { return path.Dir(s.path) }
func (s *source) line(p token.Pos) int  { return s.set.Position(p).Line }
func (s *source) isMain() bool          { return s.file.Name.Name == "main" }
func (s *source) inCgoFolder() bool     { return strings.HasPrefix(s.path, cgoFolder+"/") }
func (s *source) at(p token.Pos) string { return fmt.Sprintf("%s:%d", s.path, s.line(p)) }

const root = "../.."

// walk calls f for every file of ours.
func walk(t *testing.T, f func(path string)) {
	t.Helper()
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if d.IsDir() && (slices.Contains(notOurs, rel) || d.Name() == "testdata" && !strings.HasPrefix(rel, "cmd/")) {
			return filepath.SkipDir
		}
		if d.Type().IsRegular() {
			f(rel)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// sources parses every Go file.
func sources(t *testing.T) []*source {
	t.Helper()
	var out []*source
	walk(t, func(rel string) {
		if !strings.HasSuffix(rel, ".go") {
			return
		}
		s := &source{path: rel, test: strings.HasSuffix(rel, "_test.go"), set: token.NewFileSet()}
		var err error
		if s.text, err = os.ReadFile(filepath.Join(root, rel)); err != nil {
			t.Fatal(err)
		}
		if s.file, err = parser.ParseFile(s.set, rel, s.text, parser.ParseComments); err != nil {
			t.Fatal(err)
		}
		out = append(out, s)
	})
	if len(out) < 50 {
		t.Fatalf("got %d Go files, want all of the repository", len(out))
	}
	return out
}

// importPaths gives the imports of s with their positions.
func (s *source) importPaths(t *testing.T) map[string]token.Pos {
	t.Helper()
	out := map[string]token.Pos{}
	for _, spec := range s.file.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		out[p] = spec.Pos()
	}
	return out
}

// folderOf gives the folder of an imported package of ours.
func folderOf(importPath string) (string, bool) {
	if importPath == nativePath || strings.HasPrefix(importPath, nativePath+"/") {
		return cgoFolder + strings.TrimPrefix(importPath, nativePath), true
	}
	if rest, ok := strings.CutPrefix(importPath, modulePath+"/"); ok {
		return rest, true
	}
	return "", false
}

func TestImportGraph(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range sources(t) {
		seen[s.dir()] = true
		allowed, ok := imports[s.dir()]
		if !ok {
			t.Errorf("%s: package %s is not in the table of imports", s.path, s.dir())
			continue
		}
		for p, pos := range s.importPaths(t) {
			folder, ours := folderOf(p)
			if !ours {
				continue
			}
			if _, ok := imports[folder]; !ok {
				t.Errorf("%s: imports %s, which is not in the table", s.at(pos), folder)
			}
			if !s.test && !slices.Contains(allowed, folder) {
				t.Errorf("%s: package %s imports %s, want one of %v", s.at(pos), s.dir(), folder, allowed)
			}
			if s.inCgoFolder() && !strings.HasPrefix(folder, cgoFolder) {
				t.Errorf("%s: the module in %s imports %s, want nothing of the module around it", s.at(pos), cgoFolder, folder)
			}
		}
	}
	for folder := range imports {
		if !seen[folder] {
			t.Errorf("%s: in the table of imports, but got no such package", folder)
		}
	}
}

func TestCgoOnlyInNative(t *testing.T) {
	inside := 0
	for _, s := range sources(t) {
		found := map[string]token.Pos{}
		for p, pos := range s.importPaths(t) {
			if p == "C" || p == "unsafe" {
				found[p] = pos
			}
		}
		for _, group := range s.file.Comments {
			for _, c := range group.List {
				if strings.HasPrefix(c.Text, "//go:linkname") {
					found["go:linkname"] = c.Pos()
				}
			}
		}
		if s.inCgoFolder() {
			inside += len(found)
			continue
		}
		for what, pos := range found {
			t.Errorf("%s: uses %s, want it in %s only", s.at(pos), what, cgoFolder)
		}
	}
	if inside == 0 {
		t.Errorf("got no cgo in %s, want some: the test looks at the wrong place", cgoFolder)
	}
}

func TestPackageNames(t *testing.T) {
	for _, s := range sources(t) {
		if name := strings.TrimSuffix(s.file.Name.Name, "_test"); slices.Contains(badPackageNames, name) {
			t.Errorf("%s: package is called %s, want a name that says what it is", s.path, name)
		}
	}
}

// selectors calls f for every X.Name in the file, as "pkg.Name" if X is an identifier, else ".Name".
func (s *source) selectors(f func(name string, pos token.Pos)) {
	ast.Inspect(s.file, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := sel.X.(*ast.Ident); ok {
				f(x.Name+"."+sel.Sel.Name, sel.Pos())
			} else {
				f("."+sel.Sel.Name, sel.Pos())
			}
		}
		return true
	})
}

func TestLibrariesAreQuiet(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || s.isMain() {
			continue
		}
		for p, pos := range s.importPaths(t) {
			if slices.Contains(forbiddenImports, p) {
				t.Errorf("%s: a library imports %s, want that in commands only", s.at(pos), p)
			}
		}
		s.selectors(func(name string, pos token.Pos) {
			if slices.Contains(forbidden, name) {
				t.Errorf("%s: a library uses %s, want it to return values and errors", s.at(pos), name)
			}
		})
	}
}

// TestNothingSkips finds calls that end a test as passed, and environment variables that steer one.
func TestNothingSkips(t *testing.T) {
	for _, s := range sources(t) {
		if !s.test {
			continue
		}
		s.selectors(func(name string, pos token.Pos) {
			_, method, _ := strings.Cut(name, ".")
			if slices.Contains(forbiddenInTests, name) || slices.Contains(forbiddenInTests, "."+method) {
				t.Errorf("%s: a test uses %s, want every test to run everywhere", s.at(pos), name)
			}
		})
		for _, group := range s.file.Comments {
			if group.Pos() < s.file.Package && strings.Contains(group.List[0].Text, "//go:build") {
				t.Errorf("%s: a test has a build constraint, want every test to run everywhere", s.at(group.Pos()))
			}
		}
	}
}

func TestNothingUnfinished(t *testing.T) {
	n := 0
	walk(t, func(rel string) {
		if !slices.Contains(textFiles, path.Ext(rel)) {
			return
		}
		n++
		text, err := os.ReadFile(filepath.Join(root, rel))
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range bytes.Split(text, []byte("\n")) {
			words := strings.FieldsFunc(string(line), func(r rune) bool {
				return (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '_'
			})
			for _, word := range words {
				if slices.Contains(openWords, word) {
					t.Errorf("%s:%d: got %s, want finished work", rel, i+1, word)
				}
			}
		}
	})
	if n < 50 {
		t.Errorf("searched %d files, want all of the repository", n)
	}
}

func TestLengths(t *testing.T) {
	usedFiles, usedFunctions := map[string]bool{}, map[string]bool{}
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		if n := bytes.Count(s.text, []byte("\n")); n > maxFileLines {
			usedFiles[s.path] = true
			if longFiles[s.path] == "" {
				t.Errorf("%s: got %d lines, want at most %d", s.path, n, maxFileLines)
			}
		}
		for _, decl := range s.file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			key := s.path + ":" + f.Name.Name
			if n := s.line(f.End()) - s.line(f.Pos()) + 1; n > maxFunctionLines {
				usedFunctions[key] = true
				if longFunctions[key] == "" {
					t.Errorf("%s: function %s: got %d lines, want at most %d", s.at(f.Pos()), f.Name.Name, n, maxFunctionLines)
				}
			}
		}
	}
	for key := range longFiles {
		if !usedFiles[key] {
			t.Errorf("longFiles: %s is not too long, want it out of the table", key)
		}
	}
	for key := range longFunctions {
		if !usedFunctions[key] {
			t.Errorf("longFunctions: %s is not too long, want it out of the table", key)
		}
	}
}

// TestEverythingExportedIsDocumented looks at functions, methods of exported
// types, types, constants and variables; a comment on a group counts for all of it.
func TestEverythingExportedIsDocumented(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || s.isMain() {
			continue
		}
		for _, decl := range s.file.Decls {
			for _, name := range undocumented(decl) {
				t.Errorf("%s: %s has no comment", s.at(decl.Pos()), name)
			}
		}
	}
}

// undocumented gives the exported names of decl that no comment covers.
func undocumented(decl ast.Decl) (names []string) {
	switch d := decl.(type) {
	case *ast.FuncDecl:
		if d.Doc == nil && d.Name.IsExported() && exportedReceiver(d) {
			names = append(names, d.Name.Name)
		}
	case *ast.GenDecl:
		if d.Doc != nil || d.Tok == token.IMPORT {
			return nil
		}
		for _, spec := range d.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				if spec.Doc == nil && spec.Comment == nil && spec.Name.IsExported() {
					names = append(names, spec.Name.Name)
				}
			case *ast.ValueSpec:
				if spec.Doc == nil && spec.Comment == nil && spec.Names[0].IsExported() {
					names = append(names, spec.Names[0].Name)
				}
			}
		}
	}
	return names
}

// exportedReceiver reports whether f is a function, or a method of an exported type.
func exportedReceiver(f *ast.FuncDecl) bool {
	if f.Recv == nil {
		return true
	}
	typ := f.Recv.List[0].Type
	for {
		switch x := typ.(type) {
		case *ast.StarExpr:
			typ = x.X
		case *ast.IndexExpr:
			typ = x.X
		case *ast.IndexListExpr:
			typ = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return false
		}
	}
}

// TestPackagesHaveComments wants a package comment in exactly one file of every package.
func TestPackagesHaveComments(t *testing.T) {
	count := map[string]int{}
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		count[s.dir()] += 0
		if s.file.Doc != nil {
			count[s.dir()]++
		}
	}
	for dir, n := range count {
		if n != 1 {
			t.Errorf("%s: got a package comment in %d files, want it in 1", dir, n)
		}
	}
}

// git runs git in the root and gives what it prints.
func git(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestLlamaCppIsPinned checks the recorded commit of the submodule, in the
// index and in the last commit. The files may come from a bundle whose head is
// another commit with the same tree; .gitmodules has git ignore that, so a
// wrong commit could be recorded unseen.
func TestLlamaCppIsPinned(t *testing.T) {
	for where, out := range map[string]string{"index": git(t, "ls-files", "--stage", "--", "llamacpp"), "HEAD": git(t, "ls-tree", "HEAD", "--", "llamacpp")} {
		if fields := strings.Fields(out); len(fields) < 3 || fields[0] != "160000" || !slices.Contains(fields[1:3], llamaCommit) {
			t.Errorf("llamacpp in the %s: got %q, want a submodule at %s", where, out, llamaCommit)
		}
	}
	for key, want := range map[string]string{"path": "llamacpp", "url": "https://github.com/ggml-org/llama.cpp", "ignore": "all"} {
		if got := strings.TrimSpace(git(t, "config", "--file", ".gitmodules", "submodule.llamacpp."+key)); got != want {
			t.Errorf(".gitmodules: %s: got %q, want %q", key, got, want)
		}
	}
	if got := strings.TrimSpace(git(t, "-C", "llamacpp", "rev-parse", "HEAD^{tree}")); got != llamaTree {
		t.Errorf("tree of llamacpp: got %s, want %s", got, llamaTree)
	}
	script, err := os.ReadFile(filepath.Join(root, "build.sh"))
	if err != nil {
		t.Fatal(err)
	}
	for _, hash := range []string{llamaCommit, llamaTree} {
		if !bytes.Contains(script, []byte(hash)) {
			t.Errorf("build.sh: got another version of llama.cpp, want %s in it", hash)
		}
	}
}

// TestModules checks the paths of the two modules and how they are tied together.
func TestModules(t *testing.T) {
	for file, wants := range map[string][]string{
		"go.mod": {
			"module " + modulePath + "\n", "\ngo 1.26", nativePath + " v0.0.0-20240314183750-6a8041ef6b46\n",
			"\nreplace " + nativePath + " => ./native\n",
		},
		"native/go.mod": {"module " + nativePath + "\n", "\ngo 1.26"},
	} {
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range wants {
			if !bytes.Contains(text, []byte(want)) {
				t.Errorf("%s: want %q in it", file, want)
			}
		}
	}
}
