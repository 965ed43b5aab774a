package figure

import (
	"math"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestOf(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   Spread
	}{{[]float64{3}, Spread{3, 3, 3}}, {[]float64{3, 1, 2}, Spread{1, 2, 3}}, {[]float64{4, 1, 2, 3}, Spread{1, 2.5, 4}}} {
		if got := Of(c.values); got != c.want {
			t.Errorf("%v: got %v, want %v", c.values, got, c.want)
		}
	}
	if got := Of(nil); !math.IsNaN(got.Median) {
		t.Errorf("nothing: got %v, want NaN", got)
	}
	if got := (Step{Costs: []Cost{{Wall: 5}, {Wall: 7}}}).Of(Wall); got != (Spread{5, 6, 7}) {
		t.Errorf("step: got %v", got)
	}
}

func TestProcess(t *testing.T) {
	c, err := Process(t.Context(), "sh", "-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done")
	if err != nil || c.Wall <= 0 || c.User+c.System <= 0 || c.User > c.Wall*2 || c.PeakRSS < 1<<19 || c.MinorFaults == 0 {
		t.Errorf("got %+v, %v", c, err)
	}
	if _, err := Process(t.Context(), "sh", "-c", "echo out of luck >&2; exit 3"); err == nil || !strings.Contains(err.Error(), "out of luck") {
		t.Errorf("failing command: got %v", err)
	}
}

func TestWriteRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "steps.json")
	want := []Step{{Shape: "0.6b", Task: "f16", Tool: Ours, Cold: true, Input: 7, Costs: []Cost{{Wall: 1.5, PeakRSS: 9}}}}
	if err := Write(path, want); err != nil {
		t.Fatal(err)
	}
	var got []Step
	if err := Read(path, &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if err := Write("", want); err != nil {
		t.Errorf("no path: got %v", err)
	}
}
