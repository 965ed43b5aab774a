package gen

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/persona-gguf/persona-gguf/gen/journal"
)

// Status is how far a run is, as its manifest and journal tell.
type Status struct {
	Day       string         `json:"day"`
	Run       string         `json:"run"`
	Kind      string         `json:"kind"`
	Character string         `json:"character"`
	Model     string         `json:"model"`
	Running   bool           `json:"running"`
	PID       int            `json:"pid"`
	Jobs      int            `json:"jobs"`
	Done      int            `json:"done"`
	Failed    int            `json:"failed"` // by the program's last run
	Reasons   map[string]int `json:"reasons"`
	PerMinute float64        `json:"per_minute"` // of the program's last run
	// ETA is how long the rest takes at that rate, in seconds; -1: unknown.
	ETA    float64 `json:"eta_seconds"`
	Output string  `json:"output"`
}

// ReadStatus looks at all runs below a root, the newest day first. Runs that write now are not disturbed.
func ReadStatus(root string, now time.Time) ([]Status, error) {
	all, err := days(root)
	if err != nil {
		return nil, err
	}
	out := []Status{}
	for _, day := range all {
		dir := filepath.Join(root, "result", day)
		m, err := readManifest(dir)
		if err != nil {
			return nil, err
		}
		locked := journal.Locked(dir)
		for _, e := range m.Runs {
			s, err := e.status(dir, now, locked && m.Active == e.ID)
			if err != nil {
				return nil, fmt.Errorf("status: %w", err)
			}
			s.Day, s.Output = day, filepath.Join(root, filepath.FromSlash(e.Output))
			out = append(out, *s)
		}
	}
	return out, nil
}

func (e *RunEntry) status(dir string, now time.Time, running bool) (*Status, error) {
	s := &Status{
		Run: e.ID, Kind: string(e.Kind), Character: e.Character, Model: e.Model, Running: running, PID: e.PID, Jobs: e.Jobs,
		Done: e.DoneBefore, Reasons: map[string]int{}, ETA: -1,
	}
	last, fresh := e.Resumed, 0
	err := journal.Read(filepath.Join(dir, journal.Name), e.JournalFrom, func(_ int64, r *journal.Row) error {
		if r.Run != e.ID {
			return nil
		}
		if r.At.After(last) {
			last = r.At
		}
		if r.OK() {
			s.Done++
			fresh++
		} else {
			s.Failed++
			s.Reasons[r.Reason]++
		}
		return nil
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if running {
		last = now
	}
	if seconds := last.Sub(e.Resumed).Seconds(); seconds > 0 && fresh > 0 {
		s.PerMinute = 60 * float64(fresh) / seconds
		s.ETA = float64(s.Jobs-s.Done) / float64(fresh) * seconds
	}
	if s.Done >= s.Jobs {
		s.ETA = 0
	}
	return s, nil
}
