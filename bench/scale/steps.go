package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/persona-gguf/persona-gguf/bench/figure"
	"github.com/persona-gguf/persona-gguf/internal/meminfo"
)

// step is a process: what it does, the command, and the files that it reads and writes.
type step struct {
	task, tool, name string
	argv             []string
	input, output    string
}

// group is what is measured in turns. Then pairs of its files must be equal, and what nobody needs any more is removed.
type group struct {
	steps  []step
	equal  [][2]string
	remove []string
	after  []string // removed after every round
}

// models are the folders of a run.
type models struct {
	options
	model, adapter string
}

func (m models) path(name string) string { return filepath.Join(m.dir, m.shape+"-"+name) }

// ours is a step of this program.
func (m models) ours(task, name, input, output string, args ...string) step {
	return step{task, figure.Ours, name, append([]string{m.program}, args...), input, output}
}

func (m models) copy(name, input string) step {
	output := m.path("copy")
	return step{name, figure.Copy, name, []string{"cp", "-r", input, output}, input, output}
}

// groups lists everything that is measured; finish is to be called after it.
func (m models) groups() (groups []group, finish func(), err error) {
	switch {
	case !m.cold:
		return []group{m.toF16(), m.fromF16(), m.onePass(), m.merge(), m.chain()}, func() {}, nil
	case m.throttle == 0:
		return []group{m.coldGroup()}, func() {}, nil
	}
	t, err := newThrottle(m.dir, m.throttle*1e6)
	if err != nil {
		return nil, nil, err
	}
	g := m.coldGroup()
	for i := range g.steps {
		s := &g.steps[i]
		s.argv = t.argv(s.argv)
		suffix := fmt.Sprintf(", disk at %d MB/s", m.throttle)
		s.name, s.task = s.name+suffix, s.task+suffix
	}
	return []group{g}, func() { t.Close() }, nil
}

// toF16 is what convert_hf_to_gguf.py does.
func (m models) toF16() group {
	ours, theirs := m.path("f16.gguf"), m.path("reference-f16.gguf")
	g := group{steps: []step{
		m.copy("cp of the folder", m.model),
		m.ours("convert f16", "convert f16", m.model, ours, "convert", m.model, "--outtype", "f16", "--outfile", ours),
	}, remove: []string{theirs}}
	if m.python != "" {
		g.steps = append(g.steps, step{"convert f16", figure.Reference, "convert_hf_to_gguf.py f16",
			[]string{m.python, "llamacpp/convert_hf_to_gguf.py", m.model, "--outtype", "f16", "--outfile", theirs}, m.model, theirs})
		g.equal = append(g.equal, [2]string{ours, theirs})
	}
	return g
}

// fromF16 is what llama-quantize does.
func (m models) fromF16() group {
	f16 := m.path("f16.gguf")
	g := group{steps: []step{m.copy("cp of the f16 file", f16)}}
	for _, t := range []string{"q4_0", "q4_K_M"} {
		ours, theirs := m.path(t+".gguf"), m.path("reference-"+t+".gguf")
		g.steps = append(g.steps,
			m.ours("quantize "+t, "quantize "+t, f16, ours, "quantize", f16, ours, t),
			step{"quantize " + t, figure.Reference, "llama-quantize " + t, []string{"bin/llama-quantize", f16, theirs, t}, f16, theirs})
		g.equal = append(g.equal, [2]string{ours, theirs})
	}
	if m.inMemory() {
		ours, theirs := filepath.Join(m.memory, m.shape+"-q4_0.gguf"), filepath.Join(m.memory, m.shape+"-reference-q4_0.gguf")
		g.steps = append(g.steps,
			m.ours("quantize q4_0 to memory", "quantize q4_0, written to memory", f16, ours, "quantize", f16, ours, "q4_0"),
			step{"quantize q4_0 to memory", figure.Reference, "llama-quantize q4_0, written to memory", []string{"bin/llama-quantize", f16, theirs, "q4_0"}, f16, theirs})
		g.after = []string{ours, theirs}
	}
	g.remove = []string{f16, m.path("q4_K_M.gguf"), m.path("reference-q4_K_M.gguf"), m.path("reference-q4_0.gguf")}
	return g
}

// onePass takes the folder to q4_0 without a file in between.
func (m models) onePass() group {
	direct, persona := m.path("direct.gguf"), m.path("persona.gguf")
	g := group{
		steps: []step{
			m.copy("cp of the folder, again", m.model),
			{"cp and sync", figure.Copy, "cp of the folder, then sync", []string{"sh", "-c", `cp -r "$1" "$2" && sync "$2"/*`, "sh", m.model, m.path("copy")}, m.model, m.path("copy")},
		},
		equal:  [][2]string{{direct, m.path("q4_0.gguf")}},
		remove: []string{direct, persona, m.path("q4_0.gguf")},
	}
	m.addToQ4(&g, direct, persona)
	return g
}

// addToQ4 adds the conversion to q4_0 without and with the adapter, onto the disk and, where there is room, into memory.
func (m models) addToQ4(g *group, direct, persona string) {
	convert := func(output string, adapter ...string) []string {
		return slices.Concat([]string{"convert", m.model}, adapter, []string{"--outtype", "q4_0", "--outfile", output})
	}
	g.steps = append(g.steps,
		m.ours("convert q4_0", "convert q4_0, no f16 file", m.model, direct, convert(direct)...),
		m.ours("convert + adapter q4_0", "convert --adapter q4_0, no merged folder", m.model, persona, convert(persona, "--adapter", m.adapter)...))
	if m.inMemory() {
		output := filepath.Join(m.memory, m.shape+"-direct.gguf")
		g.steps = append(g.steps,
			m.ours("convert q4_0 to memory", "convert q4_0, written to memory", m.model, output, convert(output)...),
			m.ours("convert + adapter q4_0 to memory", "convert --adapter q4_0, written to memory", m.model, output, convert(output, "--adapter", m.adapter)...))
		g.after = append(g.after, output)
	}
}

// mergeScript is the merge as people write it, in the dtype of the base.
const mergeScript = `
import sys
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
base, adapter, out = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(base, dtype="auto", device_map="cpu")
PeftModel.from_pretrained(model, adapter).merge_and_unload().save_pretrained(out)
AutoTokenizer.from_pretrained(base).save_pretrained(out)
`

// merge writes a folder.
func (m models) merge() group {
	merged := m.path("merged")
	return group{
		steps:  []step{m.ours("merge", "merge", m.model, merged, "merge", "--base", m.model, "--adapter", m.adapter, "--out", merged)},
		remove: []string{merged},
	}
}

// chain is the way from base and adapter to q4_0 in the reference's three steps.
func (m models) chain() group {
	if m.python == "" || !m.fits() {
		return group{}
	}
	merged, f16, q4 := m.path("peft"), m.path("peft-f16.gguf"), m.path("peft-q4_0.gguf")
	return group{steps: []step{
		{"merge", figure.Reference, "PEFT merge", []string{m.python, "-c", mergeScript, m.model, m.adapter, merged}, m.model, merged},
		{"convert f16 of the merge", figure.Reference, "convert_hf_to_gguf.py f16, of that", []string{m.python, "llamacpp/convert_hf_to_gguf.py", merged, "--outtype", "f16", "--outfile", f16}, merged, f16},
		{"quantize q4_0 of the merge", figure.Reference, "llama-quantize q4_0, of that", []string{"bin/llama-quantize", f16, q4, "q4_0"}, f16, q4},
	}, after: []string{merged, f16, q4}}
}

// fits says whether PEFT can hold the model in memory.
func (m models) fits() bool {
	size, err := sizeOf(m.model)
	return err == nil && meminfo.Available() > size+size/8
}

// inMemory says whether the input in the page cache and its q4_0 in m.memory have room: then the disk, for which ours
// waits and the reference does not, is no part of the comparison.
func (m models) inMemory() bool {
	if info, err := os.Stat(m.memory); err != nil || !info.IsDir() {
		return false
	}
	size, err := sizeOf(m.model)
	return err == nil && meminfo.Available() > size+size/2
}

// coldGroup reads the folder from the disk: as fast as that can be read, by a program that uses the page cache and by one
// that does not, and beside writing as many bytes as an output has, then by the commands. Output in memory leaves the disk to the reading.
func (m models) coldGroup() group {
	q4, persona, f16, zeros := m.path("cold-q4_0.gguf"), m.path("cold-persona.gguf"), m.path("cold-f16.gguf"), m.path("zeros")
	direct := `for f in "$1"/*; do dd if="$f" of=/dev/null bs=4M iflag=direct status=none; done`
	beside := func(task, name string, share float64) step {
		size, _ := sizeOf(m.model) // an error comes again when the folder is read
		write := fmt.Sprintf("; dd if=/dev/zero of=\"$2\" bs=4M count=%.0f oflag=direct status=none; wait", float64(size)*share/(4<<20))
		return step{task, figure.Copy, name, []string{"sh", "-c", "(" + direct + ") & :" + write, "sh", m.model, zeros}, m.model, zeros}
	}
	g := group{
		steps: []step{
			{"read of the folder", figure.Copy, "cat FOLDER/* > /dev/null", []string{"sh", "-c", `cat "$1"/* > /dev/null`, "sh", m.model}, m.model, ""},
			{"direct read of the folder", figure.Copy, "dd iflag=direct of FOLDER/*", []string{"sh", "-c", direct, "sh", m.model}, m.model, ""},
			beside("direct read of the folder beside writing a quarter", "the same, beside dd oflag=direct of 4.5/16 as much", 4.5/16),
			beside("direct read of the folder beside writing as much", "the same, beside dd oflag=direct of as much", 1),
			m.copy("cp of the folder", m.model),
			m.ours("convert f16", "convert f16", m.model, f16, "convert", m.model, "--outtype", "f16", "--outfile", f16),
		},
		remove: []string{q4, persona, f16, zeros},
	}
	m.addToQ4(&g, q4, persona)
	return g
}
