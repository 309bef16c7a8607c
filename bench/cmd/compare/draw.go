package main

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"os"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"example.com/condvar/bench/load"
)

// Colors that are told apart on white, which is the ground of every picture, so
// that they can be read in dark mode too.
func red() color.Color    { return color.RGBA{R: 0xc4, G: 0x4e, B: 0x3a, A: 0xff} }
func green() color.Color  { return color.RGBA{R: 0x8f, G: 0xc1, B: 0x9d, A: 0xff} }
func blue() color.Color   { return color.RGBA{R: 0x2f, G: 0x62, B: 0xa8, A: 0xff} }
func orange() color.Color { return color.RGBA{R: 0xd9, G: 0x8c, B: 0x1f, A: 0xff} }

// drawRatios draws a bar for each workload: our time to that of the first
// rival. The other rivals are points. It draws nothing if nothing was measured.
func drawRatios(file string, s samples, workloads []load.Workload, cpus int) error {
	var labels []string
	var wins, losses plotter.Values
	var others plotter.XYs
	reach := 2.0
	for _, w := range slices.Backward(workloads) { // the first one at the top
		ours := s.values(subject{w.Name, load.Ours, cpus}, perOp)
		if len(ours) == 0 {
			continue
		}
		first := true
		for _, rival := range w.Subjects {
			if rival.Impl == load.Ours || rival.Impl == load.OursFIFO {
				continue
			}
			x := math.Log2(quantile(ratios(ours, s.values(subject{w.Name, rival.Impl, cpus}, perOp)), 0.5))
			reach = max(reach, math.Abs(x))
			if !first {
				others = append(others, plotter.XY{X: x, Y: float64(len(labels) - 1)})
				continue
			}
			first = false
			labels = append(labels, w.Name+" : "+rival.Impl)
			wins, losses = append(wins, min(x, 0)), append(losses, max(x, 0))
		}
	}
	if len(labels) == 0 {
		return nil
	}

	p := newPlot(fmt.Sprintf("Time of condvar to the rival's, with GOMAXPROCS=%d (left of 1: condvar is faster)", cpus))
	p.X.Min, p.X.Max = -math.Ceil(reach), math.Ceil(reach)
	step := math.Ceil(reach / 5)
	p.X.Tick.Marker = plot.TickerFunc(func(_, high float64) (ticks []plot.Tick) {
		for x := -step * math.Floor(high/step); x <= high; x += step {
			label := fmt.Sprintf("%g", math.Exp2(x))
			if x < 0 {
				label = fmt.Sprintf("1/%g", math.Exp2(-x))
			}
			ticks = append(ticks, plot.Tick{Value: x, Label: label})
		}
		return ticks
	})
	p.Add(plotter.NewGrid())
	for _, part := range []struct {
		values plotter.Values
		color  color.Color
		name   string
	}{{wins, green(), "faster than the named rival"}, {losses, red(), "slower"}} {
		bars, err := plotter.NewBarChart(part.values, vg.Points(9))
		if err != nil {
			return err
		}
		bars.Horizontal, bars.Color, bars.LineStyle.Width = true, part.color, 0
		p.Add(bars)
		p.Legend.Add(part.name, bars)
	}
	if len(others) > 0 {
		points, err := plotter.NewScatter(others)
		if err != nil {
			return err
		}
		points.GlyphStyle = draw.GlyphStyle{Color: blue(), Radius: vg.Points(2), Shape: draw.CircleGlyph{}}
		p.Add(points)
		p.Legend.Add("another rival", points)
	}
	p.NominalY(labels...)
	p.Y.Max = float64(len(labels)) + 2 // room for the legend
	p.Legend.Top, p.Legend.Left = true, true
	return writeSVG(file, 9*vg.Inch, 1.5*vg.Inch+vg.Points(15)*vg.Length(len(labels)), func(c draw.Canvas) { p.Draw(c) })
}

// drawWaits draws how long those waited who had to wait: condvar, condvar with
// FIFO, and x/sync, in a panel for each of some workloads. It draws nothing if
// one of them was not measured.
func drawWaits(file string, s samples, cpus int) error {
	var panels []*plot.Plot
	for _, workload := range []string{
		"HoldCPU/hold=5µs/capacity=4/goroutines=100", "HoldCPU/hold=5µs/capacity=4/goroutines=1000",
		"HoldBlocking/hold=100µs/capacity=4/goroutines=128", "HandOff/capacity=2",
	} {
		p := newPlot("Waits, " + workload)
		p.Y.Scale = plot.LogScale{}
		p.Y.Tick.Marker = plot.TickerFunc(func(low, high float64) (ticks []plot.Tick) {
			for v := low; v <= 1.001*high; v *= 10 {
				ticks = append(ticks, plot.Tick{Value: v, Label: human(v, perOp)})
			}
			return ticks
		})
		p.Add(plotter.NewGrid())
		for _, who := range []struct {
			impl  string
			color color.Color
		}{{load.Ours, blue()}, {load.OursFIFO, orange()}, {"xsync", red()}} {
			var line plotter.XYs
			for i, unit := range []string{load.P50, load.P99, load.P999, load.MaxWait} {
				values := s.values(subject{workload, who.impl, cpus}, unit)
				if len(values) == 0 {
					return nil
				}
				line = append(line, plotter.XY{X: float64(i), Y: max(1, quantile(values, 0.5))})
			}
			lines, points, err := plotter.NewLinePoints(line)
			if err != nil {
				return err
			}
			lines.Color, lines.Width = who.color, vg.Points(1.5)
			points.GlyphStyle = draw.GlyphStyle{Color: who.color, Radius: vg.Points(3), Shape: draw.CircleGlyph{}}
			p.Add(lines, points)
			p.Legend.Add(who.impl, lines, points)
		}
		p.NominalX("p50", "p99", "p99.9", "max")
		p.X.Max = 3.4 // room for the labels
		p.Y.Min = math.Pow(10, math.Floor(math.Log10(p.Y.Min)))
		p.Y.Max = math.Pow(10, math.Ceil(math.Log10(p.Y.Max)))
		panels = append(panels, p)
	}
	rows := [][]*plot.Plot{panels[:2], panels[2:]}
	return writeSVG(file, 10*vg.Inch, 7*vg.Inch, func(c draw.Canvas) {
		for i, row := range plot.Align(rows, draw.Tiles{Rows: 2, Cols: 2, PadX: vg.Points(12), PadY: vg.Points(12)}, c) {
			for j := range row {
				rows[i][j].Draw(row[j])
			}
		}
	})
}

// newPlot returns a plot with the font that the pictures have.
func newPlot(title string) *plot.Plot {
	p := plot.New()
	p.Title.Text = title
	p.Title.Padding = vg.Points(8)
	for _, style := range []*text.Style{&p.Title.TextStyle, &p.X.Tick.Label, &p.Y.Tick.Label, &p.Legend.TextStyle} {
		style.Font.Variant, style.Font.Size = "Sans", vg.Points(9)
	}
	return p
}

// writeSVG names fonts of the same widths for those who lack the one it uses.
func writeSVG(file string, width, height vg.Length, paint func(draw.Canvas)) error {
	canvas := vgsvg.New(width, height)
	paint(draw.NewCanvas(canvas, width, height))
	var svg bytes.Buffer
	if _, err := canvas.WriteTo(&svg); err != nil {
		return err
	}
	const font = "font-family:Liberation Sans"
	return os.WriteFile(file, bytes.ReplaceAll(svg.Bytes(), []byte(font), []byte(font+",Arial,Helvetica,sans-serif")), 0o644)
}
