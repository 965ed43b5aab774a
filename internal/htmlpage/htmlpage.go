// Package htmlpage has what the HTML reports share: the head with the style, and plots as part of the page. A page loads
// nothing from elsewhere.
package htmlpage

import (
	"bytes"
	"fmt"
	"html/template"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// head is a template that takes the title. Classes: n for numbers, bad and ok for what failed and passed.
const head = `{{define "head"}}<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{{.}}</title>
<style>
body { font: 15px/1.5 sans-serif; max-width: 72em; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0 } td, th { padding: .25em .8em; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top }
td.n { text-align: right; font-variant-numeric: tabular-nums } .bad { color: #b00020; font-weight: bold } .ok { color: #1b6e2e }
details { max-width: 48em } figure { display: inline-block; margin: 0 1em 1em 0 } code { font-size: 90% } svg text { font-family: sans-serif }
</style></head><body>
<h1>{{.}}</h1>{{end}}`

// New parses the template of a page; {{template "head" TITLE}} begins the page, and {{percent SHARE}} writes a share. It
// panics where the text is no template.
func New(text string, funcs template.FuncMap) *template.Template {
	t := template.New("page").Funcs(template.FuncMap{"percent": percent}).Funcs(funcs)
	return template.Must(template.Must(t.Parse(head)).Parse(text))
}

func percent(share float64) string { return fmt.Sprintf("%.2f %%", 100*share) }

// SVG draws a plot as an element of a page.
func SVG(p *plot.Plot, width, height vg.Length) (template.HTML, error) {
	c := vgsvg.New(width, height)
	p.Draw(draw.New(c))
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		return "", err
	}
	svg := b.Bytes()
	if at := bytes.Index(svg, []byte("<svg")); at > 0 {
		svg = svg[at:] // without the XML declaration
	}
	return template.HTML(svg), nil // text in a drawing is escaped by vgsvg
}
