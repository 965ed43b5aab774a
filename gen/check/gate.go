package check

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// atLeast are the metrics of which more is better.
var atLeast = []string{"own_name", "own_name_identity", "identity_turns", "protective_turns", "honorific"}

// turnsOfIdentity is how many turns the character has, at least about, for one that says who it is, in a dialogue that is
// about that; half of the dialogues that were wanted may lack it.
const turnsOfIdentity = 5

// defaults are the gates of a card that does not set them. The card's shares are of dialogues, the metric is of turns.
func (k *checker) defaults() map[string]float64 {
	gates := map[string]float64{
		"own_name": 0.5, "own_name_identity": 0.5, "identity_turns": k.card.Shares.Identity / (2 * turnsOfIdentity),
		"wrong_persona": 0, "control_text": 0, "user_turn_leak": 0, "markdown": 0,
	}
	if len(k.card.User.ForbiddenAddress) > 0 {
		gates["user_address"] = 0
	}
	if !k.NoProtective {
		gates["protective_turns"] = 0
	}
	maps.Copy(gates, k.card.Gates)
	return gates
}

// gates compares the shares with the limits.
func (k *checker) gates(r *Report) {
	limits := k.defaults()
	for _, name := range order {
		want, ok := limits[name]
		if !ok {
			continue
		}
		m := r.Metrics[name]
		g := Gate{Name: name, Value: m.Share(), Want: want, AtLeast: slices.Contains(atLeast, name)}
		if g.OK = g.Value <= want; g.AtLeast {
			g.OK = g.Value >= want && m.N > 0
		}
		if name == "honorific" && len(k.card.HonorificEndings) == 0 {
			continue
		}
		if name == "protective_turns" && k.NoProtective {
			g.Waived, g.OK = true, true
		}
		r.Gates = append(r.Gates, g)
	}
	r.Gates = append(r.Gates, Gate{Name: "contradictions", Value: float64(len(r.Contradictions)), OK: len(r.Contradictions) == 0})
}

// verdict gives the faults that no gate may allow.
func (k *checker) verdict(r *Report) error {
	var faults []string
	if len(r.Contradictions) > 0 {
		faults = append(faults, fmt.Sprintf("got %d contradictions of the card's facts, want none: %s", len(r.Contradictions), r.Contradictions[0]))
	}
	if r.Metrics["protective_turns"].N == 0 && !k.NoProtective {
		faults = append(faults, "got no protective turn, want some, or --no-protective")
	}
	if len(faults) > 0 {
		return fmt.Errorf("check: %w: %s", ErrFault, strings.Join(faults, "; "))
	}
	return nil
}

// Passed gives ErrGate with the gates that are not passed, nil if all are.
func (r *Report) Passed() error {
	var failed []string
	for _, g := range r.Gates {
		if !g.OK {
			word := "at most"
			if g.AtLeast {
				word = "at least"
			}
			failed = append(failed, fmt.Sprintf("%s: got %.4g, want %s %.4g", g.Name, g.Value, word, g.Want))
		}
	}
	if len(failed) == 0 {
		return nil
	}
	return fmt.Errorf("check: %w: %s", ErrGate, strings.Join(failed, "; "))
}

// Names gives the metrics in the order in which they are shown.
func Names() []string { return slices.Clone(order) }

// Distribution describes values.
type Distribution struct {
	Count  int     `json:"count"`
	Min    float64 `json:"min"`
	Mean   float64 `json:"mean"`
	Median float64 `json:"median"`
	P95    float64 `json:"p95"`
	Max    float64 `json:"max"`
}

// distribution sorts the values.
func distribution(values []float64) Distribution {
	d := Distribution{Count: len(values)}
	if d.Count == 0 {
		return d
	}
	slices.Sort(values)
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	at := func(q float64) float64 { return values[min(int(math.Ceil(q*float64(d.Count)))-1, d.Count-1)] }
	d.Min, d.Mean, d.Median, d.P95, d.Max = values[0], sum/float64(d.Count), at(0.5), at(0.95), values[d.Count-1]
	return d
}
