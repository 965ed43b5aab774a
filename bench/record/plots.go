package main

import (
	"bytes"
	"fmt"
	"image/color"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/persona-gguf/persona-gguf/bench/figure"
)

// picture is a plot that was written into docs/benchmarks.
type picture struct{ title, file string }

// palette has a dark and a light tone for each pair: ours and the reference's.
var palette = []color.Color{
	color.RGBA{31, 119, 180, 255}, color.RGBA{150, 190, 225, 255}, color.RGBA{214, 39, 40, 255}, color.RGBA{240, 150, 150, 255},
	color.RGBA{44, 140, 44, 255}, color.RGBA{150, 215, 140, 255}, color.RGBA{120, 80, 170, 255}, color.RGBA{195, 175, 215, 255},
	color.RGBA{230, 120, 15, 255}, color.RGBA{250, 190, 120, 255},
}

// writePlots draws time and memory against the size of the input, and tokens per second against dialogues at once.
func writePlots(docs string, r record) ([]picture, error) {
	var out []picture
	if len(r.shapes()) > 1 {
		for _, kind := range []struct {
			title, file, label string
			of                 func(wall figure.Spread, rss float64) float64
		}{
			{"Time against size", "time", "seconds", func(w figure.Spread, _ float64) float64 { return w.Median }},
			{"Memory against size", "memory", "GB of resident memory", func(_ figure.Spread, rss float64) float64 { return rss / 1e9 }},
		} {
			p := newPlot(kind.title, "GB of safetensors", kind.label)
			logarithmic(p)
			for _, w := range ways {
				if w.color < 0 {
					continue
				}
				var points plotter.XYs
				for _, shape := range r.shapes() {
					if wall, rss, ok := r.sum(shape, w); ok {
						points = append(points, plotter.XY{X: float64(r.input(shape)) / 1e9, Y: kind.of(wall, rss)})
					}
				}
				if err := addLine(p, w.name, points, w.color, w.tool == figure.Reference); err != nil {
					return nil, err
				}
			}
			picture := picture{kind.title, r.name + "-" + kind.file + ".svg"}
			if err := save(p, filepath.Join(docs, "benchmarks", picture.file)); err != nil {
				return nil, err
			}
			out = append(out, picture)
		}
	}
	rates, err := writeRates(docs, r)
	return append(out, rates...), err
}

// writeRates draws the tokens per second of all dialogues together, for every model.
func writeRates(docs string, r record) ([]picture, error) {
	p := newPlot("Dialogues at once: tokens per second while answering", "dialogues at once", "tokens/s")
	var models []string
	for _, f := range r.Rates {
		if !slices.Contains(models, f.Model) {
			models = append(models, f.Model)
		}
	}
	drawn := false
	for i, model := range models {
		for _, reference := range []bool{false, true} {
			var points plotter.XYs
			name := model
			for _, f := range r.Rates {
				if f.Model == model && f.Test == "decode" && (f.Tool != figure.Ours) == reference {
					points = append(points, plotter.XY{X: float64(f.N), Y: figure.Of(f.Samples).Median})
				}
			}
			if reference {
				name += ", llama-batched-bench"
			}
			drawn = drawn || len(points) > 0
			if err := addLine(p, name, points, 2*i+map[bool]int{true: 1}[reference], reference); err != nil {
				return nil, err
			}
		}
	}
	if !drawn {
		return nil, nil
	}
	p.Y.Min, p.X.Min = 0, 0
	out := picture{"Tokens per second", r.name + "-dialogues.svg"}
	return []picture{out}, save(p, filepath.Join(docs, "benchmarks", out.file))
}

func newPlot(title, x, y string) *plot.Plot {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	p.Legend.Top, p.Legend.Left = true, true
	p.Legend.TextStyle.Font.Size = vg.Points(8)
	p.Add(plotter.NewGrid())
	return p
}

// ticks are labels of a logarithmic axis: 1, 2 and 5 of each power of ten.
type ticks struct{}

// Ticks gives them between min and max.
func (ticks) Ticks(low, high float64) []plot.Tick {
	var out []plot.Tick
	for power := 1e-3; power < 1e6; power *= 10 {
		for _, digit := range []float64{1, 2, 5} {
			if v := power * digit; v >= low*0.999 && v <= high*1.001 {
				out = append(out, plot.Tick{Value: v, Label: strconv.FormatFloat(v, 'g', 3, 64)})
			}
		}
	}
	return out
}

func logarithmic(p *plot.Plot) {
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	p.X.Tick.Marker, p.Y.Tick.Marker = ticks{}, ticks{}
}

func addLine(p *plot.Plot, name string, xys plotter.XYs, tone int, dashed bool) error {
	if len(xys) == 0 {
		return nil
	}
	line, points, err := plotter.NewLinePoints(xys)
	if err != nil {
		return fmt.Errorf("plot %s: %w", name, err)
	}
	line.Color, line.Width = palette[tone%len(palette)], vg.Points(1.5)
	points.Color, points.Shape, points.Radius = line.Color, draw.CircleGlyph{}, vg.Points(2.5)
	if dashed {
		line.Dashes = []vg.Length{vg.Points(4), vg.Points(3)}
	}
	p.Add(line, points)
	p.Legend.Add(strings.ReplaceAll(name, "→", "to"), line, points)
	return nil
}

func save(p *plot.Plot, path string) error {
	to, err := p.WriterTo(8*vg.Inch, 5*vg.Inch, "svg")
	if err != nil {
		return fmt.Errorf("plot %s: %w", path, err)
	}
	var b bytes.Buffer
	if _, err := to.WriteTo(&b); err != nil {
		return fmt.Errorf("plot %s: %w", path, err)
	}
	return os.WriteFile(path, b.Bytes(), 0o644)
}
