package eval

import (
	"math"
	"testing"
)

// TestWilson has known intervals, and wants of every end that it is where the test of a share is on the edge: the
// difference from the share is z standard errors of the end.
func TestWilson(t *testing.T) {
	for _, c := range []struct {
		n, of     int
		low, high float64
	}{
		{0, 10, 0, 0.2775328}, {10, 10, 0.7224672, 1}, {5, 10, 0.2365931, 0.7634069}, {8, 10, 0.4901625, 0.9433178},
		{1, 1, 0.2065493, 1}, {0, 0, 0, 1},
	} {
		low, high := Wilson(c.n, c.of)
		if math.Abs(low-c.low) > 1e-6 || math.Abs(high-c.high) > 1e-6 {
			t.Errorf("%d of %d: got %.7f to %.7f, want %.7f to %.7f", c.n, c.of, low, high, c.low, c.high)
		}
	}
}

func TestWilsonEquation(t *testing.T) {
	const z = 1.959963984540054
	for of := 1; of < 200; of += 7 {
		for n := 0; n <= of; n++ {
			low, high := Wilson(n, of)
			share := float64(n) / float64(of)
			for _, end := range []float64{low, high} {
				if end == share && (n == 0 || n == of) {
					continue
				}
				if got := math.Abs(share-end) / math.Sqrt(end*(1-end)/float64(of)); math.Abs(got-z) > 1e-6 {
					t.Fatalf("%d of %d: end %v: got %v standard errors, want %v", n, of, end, got, z)
				}
			}
		}
	}
}

func TestMeanOf(t *testing.T) {
	values := []float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
	a, b := meanOf("m", "unit", values, 7), meanOf("m", "unit", values, 7)
	if a != b || a.Mean != 5.5 || a.Count != 10 {
		t.Errorf("got %+v and %+v, want the same mean of 5.5", a, b)
	}
	// The standard error of the mean is 0.908: the interval is about 1.8 to either side.
	if math.Abs(a.Low-3.7) > 0.3 || math.Abs(a.High-7.3) > 0.3 {
		t.Errorf("got %.2f to %.2f, want about 3.7 to 7.3", a.Low, a.High)
	}
	if one := meanOf("m", "unit", []float64{3}, 1); one.Low != 3 || one.High != 3 {
		t.Errorf("one value: got %+v", one)
	}
	if none := meanOf("m", "unit", nil, 1); none.Count != 0 || none.Mean != 0 {
		t.Errorf("no value: got %+v", none)
	}
}

func TestScore(t *testing.T) {
	more, less := Score{AtLeast: true}, Score{}
	for _, is := range []bool{true, true, false} {
		more.add(is, Failure{Probe: map[bool]string{true: "good", false: "bad"}[is]})
		less.add(is, Failure{Probe: map[bool]string{true: "bad", false: "good"}[is]})
	}
	more.finish()
	if more.N != 2 || more.Of != 3 || len(more.Failures) != 1 || more.Failures[0].Probe != "bad" || math.Abs(more.Share-2.0/3) > 1e-9 {
		t.Errorf("more is better: got %+v", more)
	}
	if less.N != 2 || len(less.Failures) != 2 || less.Failures[0].Probe != "bad" {
		t.Errorf("less is better: got %+v", less)
	}
}
