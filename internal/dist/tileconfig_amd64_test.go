package dist_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// tileProgram sets up AMX tiles as ggml does; 77 stands for what must reach the processor.
const tileProgram = `#include <immintrin.h>
struct config { unsigned char palette, start, reserved[14]; unsigned short colsb[16]; unsigned char rows[16]; };
void configure() {
	alignas(64) config c = {};
	c.palette = 1;
	c.rows[7] = 77;
	_tile_loadconfig(&c);
}
`

// TestTileConfigurationIsStored compiles with the header that build.sh includes everywhere. Without it GCC drops
// all but the first bytes, and a quantized model ends in an illegal instruction on a CPU with AMX.
func TestTileConfigurationIsStored(t *testing.T) {
	header := filepath.Join(repoRoot(t), "native", "kernels", "tileconfig.h")
	cmd := exec.Command("c++", "-O3", "-mamx-tile", "-include", header, "-x", "c++", "-S", "-o", "-", "-")
	cmd.Stdin = strings.NewReader(tileProgram)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("c++: %v\n%s", err, out)
	}
	for _, want := range []string{"ldtilecfg", "$77"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("got assembly\n%s\nwant %s in it", out, want)
		}
	}
}
