package eval

import (
	"math"
	"math/rand/v2"
	"slices"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"
)

// confidence is that of all intervals.
const confidence = 0.95

// Wilson is the score interval of a share of n in of (E. B. Wilson, 1927): with z the normal quantile,
//
//	(p + z²/2of ± z·sqrt(p(1−p)/of + z²/4of²)) / (1 + z²/of)
//
// and 0 to 1 of nothing.
func Wilson(n, of int) (low, high float64) {
	if of == 0 {
		return 0, 1
	}
	z := distuv.UnitNormal.Quantile(1 - (1-confidence)/2)
	p, m := float64(n)/float64(of), float64(of)
	center, half := p+z*z/(2*m), z*math.Sqrt(p*(1-p)/m+z*z/(4*m*m))
	scale := 1 + z*z/m
	low, high = max(0, (center-half)/scale), min(1, (center+half)/scale)
	if n == 0 {
		low = 0
	}
	if n == of {
		high = 1
	}
	return low, high
}

// Mean is a mean of Count values with its interval: percentiles of 2,000 means of values drawn with replacement.
type Mean struct {
	Name  string  `json:"name"`
	Unit  string  `json:"unit"`
	Count int     `json:"count"`
	Mean  float64 `json:"mean"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
}

const resamples = 2000

// meanOf takes the mean; the same seed gives the same interval.
func meanOf(name, unit string, values []float64, seed uint64) Mean {
	m := Mean{Name: name, Unit: unit, Count: len(values)}
	if len(values) == 0 {
		return m
	}
	m.Mean = stat.Mean(values, nil)
	r := rand.New(rand.NewPCG(seed, uint64(len(values))))
	means := make([]float64, resamples)
	for i := range means {
		sum := 0.0
		for range values {
			sum += values[r.IntN(len(values))]
		}
		means[i] = sum / float64(len(values))
	}
	slices.Sort(means)
	m.Low = stat.Quantile((1-confidence)/2, stat.Empirical, means, nil)
	m.High = stat.Quantile(1-(1-confidence)/2, stat.Empirical, means, nil)
	return m
}

// Failure is a reply that speaks against the character.
type Failure struct {
	Probe string `json:"probe"`
	Turn  int    `json:"turn"` // of the user, from 1
	Seed  uint32 `json:"seed,omitempty"`
	Reply string `json:"reply"`
}

// Score is a count with what it is a share of, and the interval of the share.
type Score struct {
	Name     string    `json:"name"`
	N        int       `json:"n"`
	Of       int       `json:"of"`
	Unit     string    `json:"unit"`
	AtLeast  bool      `json:"at_least"` // more is better
	Share    float64   `json:"share"`
	Low      float64   `json:"low"`
	High     float64   `json:"high"`
	Failures []Failure `json:"failures"` // those that count where less is better, else those that do not
}

// add counts one.
func (s *Score) add(is bool, f Failure) {
	if s.Of++; is {
		s.N++
	}
	if is != s.AtLeast {
		s.Failures = append(s.Failures, f)
	}
}

// finish fills in share and interval.
func (s *Score) finish() {
	if s.Of > 0 {
		s.Share = float64(s.N) / float64(s.Of)
	}
	s.Low, s.High = Wilson(s.N, s.Of)
	if s.Failures == nil {
		s.Failures = []Failure{}
	}
}
