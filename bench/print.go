package bench

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	llama "github.com/go-skynet/go-llama.cpp"

	"github.com/persona-gguf/persona-gguf/internal/unit"
)

// Printer writes results in one of llama-bench's output formats as they come: Header, Test for each,
// Footer.
type Printer struct {
	w      io.Writer
	format format
	params Params
	tests  int
	cols   []column // of the Markdown table
}

type format struct {
	header, footer func(p *Printer) error
	test           func(p *Printer, r Result) error
}

func nothing(*Printer) error { return nil }

// The formats by name. Each object or row carries, after llama-bench's own fields, those of [Result]
// that llama-bench does not have.
var formats = map[string]format{
	"md":    {(*Printer).markdownHeader, (*Printer).markdownFooter, (*Printer).markdownTest},
	"json":  {(*Printer).jsonHeader, (*Printer).jsonFooter, (*Printer).jsonTest},
	"jsonl": {nothing, nothing, (*Printer).jsonlTest},
	"csv":   {(*Printer).csvHeader, nothing, (*Printer).csvTest},
}

// Formats lists the names that [NewPrinter] takes.
func Formats() []string { return []string{"csv", "json", "jsonl", "md"} }

// NewPrinter returns a printer to w in the format called name; the grid decides which columns the
// Markdown table has.
func NewPrinter(w io.Writer, name string, p Params) (*Printer, error) {
	f, ok := formats[name]
	if !ok {
		return nil, fmt.Errorf("bench: output format: got %q, want one of %s", name, strings.Join(Formats(), ", "))
	}
	return &Printer{w: w, format: f, params: p}, nil
}

// Header writes what comes before the first test.
func (p *Printer) Header() error { return p.format.header(p) }

// Test writes one result.
func (p *Printer) Test(r Result) error {
	err := p.format.test(p, r)
	p.tests++
	return err
}

// Footer writes what comes after the last test.
func (p *Printer) Footer() error { return p.format.footer(p) }

// field is one field of a result under its JSON name.
type field struct {
	name  string
	value any
}

func fields(r Result) []field {
	v := reflect.ValueOf(r)
	list := make([]field, v.NumField())
	for i := range list {
		list[i] = field{v.Type().Field(i).Tag.Get("json"), v.Field(i).Interface()}
	}
	return list
}

func (p *Printer) jsonHeader() error {
	_, err := io.WriteString(p.w, "[\n")
	return err
}

func (p *Printer) jsonFooter() error {
	_, err := io.WriteString(p.w, "\n]\n")
	return err
}

// jsonTest writes one field a line, so that a list of samples stays on one.
func (p *Printer) jsonTest(r Result) error {
	var b strings.Builder
	if p.tests > 0 {
		b.WriteString(",\n")
	}
	for i, f := range fields(r) {
		value, err := json.Marshal(f.value)
		if err != nil {
			return fmt.Errorf("bench: print %s: %w", f.name, err)
		}
		separator := ",\n"
		if i == 0 {
			separator = "  {\n"
		}
		fmt.Fprintf(&b, "%s    %q: %s", separator, f.name, value)
	}
	b.WriteString("\n  }")
	_, err := io.WriteString(p.w, b.String())
	return err
}

func (p *Printer) jsonlTest(r Result) error {
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("bench: print: %w", err)
	}
	_, err = p.w.Write(append(line, '\n'))
	return err
}

func (p *Printer) csvHeader() error { return p.csv(func(f field) string { return f.name }, Result{}) }

// csvTest writes numbers as llama-bench does: bools as 0 and 1, rates with six digits. The samples,
// which are lists, are left out as there.
func (p *Printer) csvTest(r Result) error {
	return p.csv(func(f field) string {
		switch v := f.value.(type) {
		case bool:
			return map[bool]string{false: "0", true: "1"}[v]
		case float64:
			return strconv.FormatFloat(v, 'f', 6, 64)
		}
		return fmt.Sprint(f.value)
	}, r)
}

func (p *Printer) csv(text func(field) string, r Result) error {
	var row []string
	for _, f := range fields(r) {
		if reflect.TypeOf(f.value).Kind() != reflect.Slice {
			row = append(row, text(f))
		}
	}
	w := csv.NewWriter(p.w)
	if err := w.Write(row); err != nil {
		return fmt.Errorf("bench: print: %w", err)
	}
	w.Flush()
	return w.Error()
}

// column is one column of the Markdown table; a negative width aligns to the left.
type column struct {
	title string
	width int
	text  func(r Result) string
}

// columns chooses those of llama-bench: a number that is the same default in every test is left out.
func (p *Printer) columns() ([]column, error) {
	_, _, backends, err := machine()
	if err != nil {
		return nil, err
	}
	cpu := strings.Contains(backends, "CPU") || strings.Contains(backends, "BLAS")
	d := DefaultParams()
	differs := func(values, usual []int) bool { return !slices.Equal(values, usual) }
	number := func(title string, width int, value func(r Result) int) column {
		return column{title, width, func(r Result) string { return strconv.Itoa(value(r)) }}
	}
	list := []column{
		{"model", -30, func(r Result) string { return r.ModelType }},
		{"size", 10, func(r Result) string { return binarySize(r.ModelSize) }},
		{"params", 10, func(r Result) string { return parameters(r.ModelNParams) }},
		{"backend", -10, func(r Result) string { return r.Backends }},
	}
	if !cpu {
		list = append(list, number("ngl", 3, func(r Result) int { return r.NGPULayers }))
	}
	if cpu || differs(p.params.NThreads, d.NThreads) {
		list = append(list, number("threads", 7, func(r Result) int { return r.NThreads }))
	}
	if differs(p.params.NBatch, d.NBatch) {
		list = append(list, number("n_batch", 7, func(r Result) int { return r.NBatch }))
	}
	if differs(p.params.NUBatch, d.NUBatch) {
		list = append(list, number("n_ubatch", 8, func(r Result) int { return r.NUBatch }))
	}
	return append(list,
		column{"test", 15, testName},
		column{"t/s", 20, func(r Result) string { return fmt.Sprintf("%.2f ± %.2f", r.AvgTS, r.StddevTS) }},
		column{"first token", 11, firstToken},
		column{"load", 8, func(r Result) string { return unit.Duration(time.Duration(r.ModelLoadNS)) }},
		column{"peak memory", 11, func(r Result) string { return binarySize(uint64(r.PeakMemory)) }},
	), nil
}

func (p *Printer) markdownHeader() error {
	var err error
	if p.cols, err = p.columns(); err != nil {
		return err
	}
	rule := "|"
	for _, c := range p.cols {
		if c.width > 0 {
			rule += " " + strings.Repeat("-", c.width-1) + ": |"
		} else {
			rule += " " + strings.Repeat("-", -c.width-1) + "- |"
		}
	}
	if err := p.markdownRow(func(c column) string { return c.title }); err != nil {
		return err
	}
	_, err = fmt.Fprintln(p.w, rule)
	return err
}

func (p *Printer) markdownTest(r Result) error {
	return p.markdownRow(func(c column) string { return c.text(r) })
}

func (p *Printer) markdownRow(text func(c column) string) error {
	row := "|"
	for _, c := range p.cols {
		s := text(c)
		space := strings.Repeat(" ", max(0, max(c.width, -c.width)-utf8.RuneCountInString(s)))
		if c.width > 0 {
			s = space + s
		} else {
			s += space
		}
		row += " " + s + " |"
	}
	_, err := fmt.Fprintln(p.w, row)
	return err
}

func (p *Printer) markdownFooter() error {
	version, commit := llama.BuildInfo()
	_, err := fmt.Fprintf(p.w, "\nbuild: llama.cpp %s, %.9s (%d)\n", version, commit, llama.BuildNumber())
	return err
}

// testName is "pp512", "tg128" or "pp512+tg128", and " @ d1024" at a depth.
func testName(r Result) string {
	var parts []string
	if r.NPrompt > 0 {
		parts = append(parts, fmt.Sprintf("pp%d", r.NPrompt))
	}
	if r.NGen > 0 {
		parts = append(parts, fmt.Sprintf("tg%d", r.NGen))
	}
	name := strings.Join(parts, "+")
	if r.NDepth > 0 {
		name += fmt.Sprintf(" @ d%d", r.NDepth)
	}
	return name
}

func firstToken(r Result) string {
	if r.NPrompt == 0 {
		return "-"
	}
	return unit.Duration(time.Duration(r.AvgFirstNS))
}

func binarySize(n uint64) string {
	if n < 1<<30 {
		return fmt.Sprintf("%.2f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30))
}

func parameters(n uint64) string {
	if n < 1e9 {
		return fmt.Sprintf("%.2f M", float64(n)/1e6)
	}
	return fmt.Sprintf("%.2f B", float64(n)/1e9)
}
