package train

import (
	"bytes"
	"fmt"
	"image/color"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// writePlot draws the losses of the log against the steps into a PNG file. Without any loss it draws nothing.
func writePlot(path string, lines []logLine) error {
	var train, eval plotter.XYs
	for _, l := range lines {
		if l.Loss != nil {
			train = append(train, plotter.XY{X: float64(l.Step), Y: *l.Loss})
		}
		if l.EvalLoss != nil {
			eval = append(eval, plotter.XY{X: float64(l.Step), Y: *l.EvalLoss})
		}
	}
	if len(train) == 0 {
		return nil
	}
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = "Loss on the character's turns", "step", "nats per token"
	p.Y.Min = 0
	p.Add(plotter.NewGrid())
	for _, series := range []struct {
		name   string
		points plotter.XYs
		color  color.Color
	}{{"training", train, color.RGBA{R: 31, G: 119, B: 180, A: 255}}, {"held out", eval, color.RGBA{R: 214, G: 39, B: 40, A: 255}}} {
		if len(series.points) == 0 {
			continue
		}
		line, points, err := plotter.NewLinePoints(series.points) // the points show a line of one
		if err != nil {
			return fmt.Errorf("draw losses: %w", err)
		}
		line.Color, line.Width = series.color, vg.Points(1.5)
		points.Color, points.Shape, points.Radius = series.color, draw.CircleGlyph{}, vg.Points(1.5)
		p.Add(line, points)
		p.Legend.Add(series.name, line, points)
	}
	p.Legend.Top, p.Legend.XOffs = true, -vg.Points(8)
	to, err := p.WriterTo(7*vg.Inch, 4*vg.Inch, "png")
	if err != nil {
		return fmt.Errorf("draw losses: %w", err)
	}
	var b bytes.Buffer
	if _, err := to.WriteTo(&b); err != nil {
		return fmt.Errorf("draw losses: %w", err)
	}
	return writeFile(path, b.Bytes())
}
