package htmlpage

import (
	"html/template"
	"strings"
	"testing"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
)

// What stands in a file of somebody else is text on the page, never a part of its markup.
func TestTextStaysText(t *testing.T) {
	t.Parallel()
	p := plot.New()
	p.Title.Text = "<script>a & b"
	svg, err := SVG(p, 4*vg.Centimeter, 3*vg.Centimeter)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(svg), "<svg") {
		t.Errorf("SVG: got %.40q, want an element", svg)
	}
	var b strings.Builder
	page := New(`{{template "head" .Title}}{{.SVG}}{{percent .Share}} {{loud .Title}}`, template.FuncMap{"loud": strings.ToUpper})
	data := struct {
		Title string
		SVG   template.HTML
		Share float64
	}{"<i>백설공주</i>", svg, 0.125}
	if err := page.Execute(&b, data); err != nil {
		t.Fatal(err)
	}
	got := b.String()
	for _, want := range []string{"<title>&lt;i&gt;백설공주&lt;/i&gt;</title>", "<h1>&lt;i&gt;백설공주", "12.50 %", "&lt;I&gt;백설공주", "&lt;script&gt;a &amp; b", "<svg"} {
		if !strings.Contains(got, want) {
			t.Errorf("page: got %s, want %q in it", got, want)
		}
	}
	for _, bad := range []string{"<script>", "<i>", "<?xml"} {
		if strings.Contains(got, bad) {
			t.Errorf("page: got %s, want no %q", got, bad)
		}
	}
}
