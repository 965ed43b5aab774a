package check

import (
	"fmt"
	"html/template"
	"image/color"
	"io"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"

	"github.com/persona-gguf/persona-gguf/internal/htmlpage"
)

// page is the whole report; nothing in it is loaded from elsewhere.
var page = htmlpage.New(`{{template "head" (print "Data of " .Name)}}
<p>{{.R.Records}} records, {{.R.Unique}} without near duplicates; {{.R.Train}} to train on, {{.R.Eval}} held out; {{.R.Turns}} turns of the character.</p>
<h2>Gates</h2><table><tr><th>gate</th><th>value</th><th>want</th><th></th></tr>
{{range .R.Gates}}<tr><td>{{.Name}}</td><td class="n">{{printf "%.4f" .Value}}</td><td class="n">{{if .AtLeast}}≥{{else}}≤{{end}} {{.Want}}</td>
<td>{{if .Waived}}waived{{else if .OK}}<span class="ok">passed</span>{{else}}<span class="bad">failed</span>{{end}}</td></tr>{{end}}</table>
{{if .R.Contradictions}}<h2>Contradictions</h2><ul>{{range .R.Contradictions}}<li class="bad">{{.}}</li>{{end}}</ul>{{end}}
{{if .R.Warnings}}<h2>Warnings</h2><ul>{{range .R.Warnings}}<li>{{.}}</li>{{end}}</ul>{{end}}
<h2>Metrics</h2><table><tr><th>metric</th><th>count</th><th>of</th><th>share</th><th>records</th></tr>
{{range .Rows}}<tr><td>{{.Name}}</td><td class="n">{{.M.N}}</td><td class="n">{{.M.Of}} {{.M.Unit}}s</td><td class="n">{{percent .M.Share}}</td>
<td>{{if .M.IDs}}<details><summary>{{len .M.IDs}}</summary>{{range first .M.IDs}}<code>{{.}}</code> {{end}}</details>{{end}}</td></tr>{{end}}</table>
<h2>Lengths</h2>{{range .Figures}}<figure>{{.SVG}}<figcaption>{{.D.Count}} values; median {{.D.Median}}, 95 % up to {{.D.P95}}, longest {{.D.Max}}</figcaption></figure>{{end}}
<h2>Topics</h2><table><tr><th>topic</th><th>records</th><th>turns</th><th>{{.R.LengthUnit}}s</th><th>share</th></tr>
{{range .R.Topics}}<tr><td>{{.Topic}}</td><td class="n">{{.Records}}</td><td class="n">{{.Turns}}</td><td class="n">{{.Length}}</td><td class="n">{{percent .Share}}</td></tr>{{end}}</table>
</body></html>
`, template.FuncMap{
	"first": func(ids []string) []string { return ids[:min(len(ids), 20)] },
})

type row struct {
	Name string
	M    *Metric
}

type figure struct {
	SVG template.HTML
	D   Distribution
}

// WriteHTML writes the report as one page with histograms.
func (r *Report) WriteHTML(w io.Writer, name string) error {
	data := struct {
		Name    string
		R       *Report
		Rows    []row
		Figures []figure
	}{Name: name, R: r}
	for _, m := range order {
		data.Rows = append(data.Rows, row{m, r.Metrics[m]})
	}
	for _, h := range []struct{ values, title, x string }{
		{"record", "Length of records", r.LengthUnit + "s"}, {"turn", "Length of the character's turns", "code points"}, {"turns", "Turns of a record", "turns"},
	} {
		svg, err := histogram(r.values[h.values], h.title, h.x)
		if err != nil {
			return fmt.Errorf("draw %s: %w", h.title, err)
		}
		data.Figures = append(data.Figures, figure{svg, r.Lengths[h.values]})
	}
	return page.Execute(w, data)
}

// histogram draws values as an SVG element.
func histogram(values []float64, title, x string) (template.HTML, error) {
	if len(values) == 0 {
		return "", nil
	}
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, "count"
	h, err := plotter.NewHist(plotter.Values(values), 30)
	if err != nil {
		return "", err
	}
	h.FillColor = color.RGBA{R: 0x4c, G: 0x78, B: 0xa8, A: 0xff}
	h.LineStyle.Width = vg.Points(0.3)
	p.Add(h)
	return htmlpage.SVG(p, 14*vg.Centimeter, 8*vg.Centimeter)
}
