package eval

import (
	"fmt"
	"html/template"
	"image/color"
	"io"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/persona-gguf/persona-gguf/internal/htmlpage"
)

// page is the whole report; nothing in it is loaded from elsewhere.
var page = htmlpage.New(`{{template "head" (print "Interview of " .R.Character)}}
<p>{{len .R.Probes}} probes; card <code>{{.R.Card}}</code> {{short .R.CardHash}}, persona {{short .R.Persona}}, format {{.R.Format}}, seed {{.R.Seed}}, {{.R.Samples}} interviews with the card's sampling, llama.cpp {{.R.LlamaCpp}}{{if .R.Data}}, held-out records of <code>{{.R.Data}}</code>{{end}}.</p>
{{if .R.LostAt}}<p class="bad">The persona is lost at {{.R.LostAt}}.</p>{{end}}
<ol>{{range .R.Files}}<li>{{.Label}}{{if .Through}} through {{.Through}}{{end}} {{if .SHA256}}<code>{{short .SHA256}}</code>{{end}}</li>{{end}}</ol>
{{range .Figures}}<figure>{{.SVG}}<figcaption>{{.Caption}}</figcaption></figure>{{end}}
{{if .R.Drift}}<h2>Drift</h2><table><tr><th>file</th><th>tokens</th><th>KLD</th><th>99 %</th><th>largest</th><th>same top</th><th>loss</th><th>scores, in points</th></tr>
{{range .R.Drift}}<tr><td>{{.File}}</td><td class="n">{{.Tokens}}</td><td class="n">{{number .KLD}} ± {{number .StdErr}}</td><td class="n">{{number .Q99}}</td><td class="n">{{number .Max}}</td>
<td class="n">{{percent .SameTop.Share}}</td><td class="n">{{number .LogRatio}}</td><td><details><summary>{{len .Changes}}</summary>{{range .Changes}}{{.Name}} {{points .}}<br>{{end}}</details></td></tr>{{end}}</table>{{end}}
{{with .R.Pairs}}<h2>Judged side by side</h2><p>{{.Model}}: {{.First}} better {{.FirstWins}} times, {{.Second}} {{.Wins}} times; the same in both orders {{.Agreement.N}} of {{.Agreement.Of}}; {{.Unscored}} unscored.</p>{{end}}
{{range $i, $f := .R.Files}}<h2>{{next $i}}. {{.Label}}</h2>
<table><tr><th>gate</th><th>value</th><th>want</th><th></th></tr>
{{range .Gates}}<tr><td>{{.Name}}</td><td class="n">{{printf "%.4f" .Value}}</td><td class="n">{{if .AtLeast}}≥{{else}}≤{{end}} {{.Want}}</td>
<td>{{if .OK}}<span class="ok">passed</span>{{else}}<span class="bad">failed</span>{{end}}</td></tr>{{end}}</table>
{{template "scores" .Scores}}
{{if .Sampled}}<h3>With the card's sampling</h3>{{template "scores" .Sampled}}{{end}}
<table><tr><th>mean</th><th>value</th><th>95 %</th><th>of</th></tr>
{{range .Means}}<tr><td>{{.Name}}</td><td class="n">{{number .Mean}}</td><td class="n">{{number .Low}} – {{number .High}}</td><td class="n">{{.Count}}</td></tr>{{end}}
{{with .Margin}}<tr><td>margin to {{.Generic}}, {{.Mean.Unit}}</td><td class="n">{{number .Mean.Mean}}</td><td class="n">{{number .Mean.Low}} – {{number .Mean.High}}</td><td class="n">{{.Mean.Count}}</td></tr>{{end}}
{{with .Loss}}<tr><td>held-out loss, perplexity {{number .Perplexity}}</td><td class="n">{{number .Loss}}</td><td class="n">± {{number .StdErr}}</td><td class="n">{{.Tokens}}</td></tr>{{end}}
{{with .Judged}}{{range .Dimensions}}<tr><td>judged {{.Name}} ({{.Unscored}} unscored)</td><td class="n">{{number .Score.Mean}}</td><td class="n">{{number .Score.Low}} – {{number .Score.High}}</td><td class="n">{{.Score.Count}}</td></tr>{{end}}{{end}}</table>
<details><summary>checks of the probe set</summary><table><tr><th>topic</th><th>check</th><th>passed</th><th>of</th></tr>
{{range .Checks}}<tr><td>{{.Topic}}</td><td>{{.Check}}</td><td class="n">{{if lt .Passed .Of}}<span class="bad">{{.Passed}}</span>{{else}}{{.Passed}}{{end}}</td><td class="n">{{.Of}}</td></tr>{{end}}</table></details>
<details><summary>all replies</summary><table><tr><th>probe</th><th>question</th><th>reply</th><th>failed checks</th></tr>
{{range greedy .Replies}}<tr><td>{{.Probe}}.{{.Turn}}</td><td>{{.Question}}</td><td>{{.Text}}</td><td>{{range .Failed}}<span class="bad">{{.}}</span> {{end}}</td></tr>{{end}}</table></details>{{end}}
</body></html>
{{define "scores"}}<table><tr><th>score</th><th>count</th><th>of</th><th>share</th><th>95 %</th><th>replies against it</th></tr>
{{range .}}<tr><td>{{.Name}}</td><td class="n">{{.N}}</td><td class="n">{{.Of}}</td><td class="n">{{percent .Share}}</td><td class="n">{{percent .Low}} – {{percent .High}}</td>
<td>{{if .Failures}}<details><summary>{{len .Failures}}</summary>{{range first .Failures}}<code>{{.Probe}}.{{.Turn}}</code> {{.Reply}}<br>{{end}}</details>{{end}}</td></tr>{{end}}</table>{{end}}
`, template.FuncMap{
	"points": func(c Change) string { return fmt.Sprintf("%+.2f", 100*(c.To-c.From)) },
	"number": func(x float64) string { return fmt.Sprintf("%.4g", x) },
	"next":   func(i int) int { return i + 1 },
	"short":  func(s string) string { return s[:min(len(s), 16)] },
	"first":  func(f []Failure) []Failure { return f[:min(len(f), 30)] },
	"greedy": func(all []Reply) []Reply {
		return slices.DeleteFunc(slices.Clone(all), func(r Reply) bool { return r.Seed != 0 })
	},
})

type figure struct {
	SVG     template.HTML
	Caption string
}

// colours tell files apart; more files take them again.
var colours = []color.RGBA{{0x4c, 0x78, 0xa8, 0xff}, {0xf5, 0x85, 0x18, 0xff}, {0xe4, 0x57, 0x56, 0xff}, {0x54, 0xa2, 0x4b, 0xff}, {0x9d, 0x75, 0x5d, 0xff}, {0x79, 0x4a, 0x9e, 0xff}}

// WriteHTML writes the report as one page with plots; nothing in it is loaded from elsewhere.
func (r *Report) WriteHTML(w io.Writer) error {
	data := struct {
		R       *Report
		Figures []figure
	}{R: r}
	for _, f := range []struct {
		draw    func() (template.HTML, error)
		caption string
	}{
		{func() (template.HTML, error) { return r.drawScores(true) }, "Scores of which more is better, with 95 % intervals; colours are the files in their order."},
		{func() (template.HTML, error) { return r.drawScores(false) }, "Scores of which less is better."},
		{r.drawLengths, "Characters of replies, by file."},
		{r.drawDrift, "Mean KLD from the first file."},
	} {
		svg, err := f.draw()
		if err != nil {
			return fmt.Errorf("draw %s: %w", f.caption, err)
		}
		if svg != "" {
			data.Figures = append(data.Figures, figure{svg, f.caption})
		}
	}
	return page.Execute(w, data)
}

// intervals are points with error bars along x.
type intervals struct {
	plotter.XYs
	plotter.XErrors
}

// drawScores has a line for each score and a point for each file.
func (r *Report) drawScores(atLeast bool) (template.HTML, error) {
	var names []string
	for i := len(scoreNames) - 1; i >= 0; i-- { // the first one on top
		if scoreNames[i].atLeast == atLeast {
			names = append(names, scoreNames[i].name)
		}
	}
	p := plot.New()
	p.X.Min, p.X.Max, p.X.Label.Text = 0, 1, "share"
	for k, f := range r.Files {
		var all intervals
		for _, s := range f.Scores {
			y := slices.Index(names, s.Name)
			if y < 0 {
				continue
			}
			all.XYs = append(all.XYs, plotter.XY{X: s.Share, Y: float64(y) - 0.6*(float64(k)+0.5)/float64(len(r.Files)) + 0.3})
			all.XErrors = append(all.XErrors, struct{ Low, High float64 }{s.Share - s.Low, s.High - s.Share})
		}
		if len(all.XYs) == 0 {
			continue
		}
		bars, err := plotter.NewXErrorBars(all)
		if err != nil {
			return "", err
		}
		points, err := plotter.NewScatter(all.XYs)
		if err != nil {
			return "", err
		}
		colour := colours[k%len(colours)]
		bars.Color, points.Color, points.Shape, points.Radius = colour, colour, draw.CircleGlyph{}, vg.Points(2)
		p.Add(bars, points)
	}
	p.NominalY(names...)
	p.Y.Min, p.Y.Max = -0.5, float64(len(names))-0.5
	return htmlpage.SVG(p, 15*vg.Centimeter, vg.Length(2+0.7*float64(len(names)))*vg.Centimeter)
}

// drawLengths has a box for each file.
func (r *Report) drawLengths() (template.HTML, error) {
	p := plot.New()
	p.Y.Label.Text = "characters"
	var names []string
	for k, f := range r.Files {
		var values plotter.Values
		for _, reply := range f.Replies {
			if reply.Seed == 0 {
				values = append(values, float64(len([]rune(reply.Text))))
			}
		}
		if len(values) == 0 {
			continue
		}
		box, err := plotter.NewBoxPlot(vg.Points(24), float64(len(names)), values)
		if err != nil {
			return "", err
		}
		box.FillColor = colours[k%len(colours)]
		p.Add(box)
		names = append(names, fmt.Sprint(k+1))
	}
	if len(names) == 0 {
		return "", nil
	}
	p.NominalX(names...)
	p.X.Min, p.X.Max = -0.5, float64(len(names))-0.5
	return htmlpage.SVG(p, 12*vg.Centimeter, 8*vg.Centimeter)
}

// drawDrift has a bar for each file but the first.
func (r *Report) drawDrift() (template.HTML, error) {
	var values plotter.Values
	var names []string
	for i, d := range r.Drift {
		if d.Tokens > 0 {
			values, names = append(values, d.KLD), append(names, fmt.Sprint(i+2))
		}
	}
	if len(values) == 0 {
		return "", nil
	}
	bars, err := plotter.NewBarChart(values, vg.Points(24))
	if err != nil {
		return "", err
	}
	bars.Color = colours[0]
	p := plot.New()
	p.Y.Label.Text = "nat per token"
	p.Add(bars)
	p.NominalX(names...)
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = -0.5, float64(len(names))-0.5, 0, 1.1*slices.Max(values)
	return htmlpage.SVG(p, 12*vg.Centimeter, 8*vg.Centimeter)
}
