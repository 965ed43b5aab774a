package train

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// stopGrace is how long the trainer may take to finish its step and save a checkpoint.
const stopGrace = 3 * time.Minute

// trainerCommand is the command that runs the trainer on a configuration, alone or through a launcher.
func (o *Options) trainerCommand(e environment, onGPU bool, configPath string) []string {
	nproc, nnodes, all := strconv.Itoa(o.NProc), strconv.Itoa(o.NNodes), strconv.Itoa(o.NProc*o.NNodes)
	address, port, rank := o.MasterAddr, strconv.Itoa(o.MasterPort), strconv.Itoa(o.NodeRank)
	command := []string{e.python, "-u"}
	switch o.Launcher {
	case "torchrun":
		command = append(command, "-m", "torch.distributed.run", "--nproc-per-node", nproc, "--nnodes", nnodes)
		if o.NNodes == 1 { // a port that is free, so that several runs fit on a machine
			command = append(command, "--rdzv-backend", "c10d", "--rdzv-endpoint", address+":0")
		} else {
			command = append(command, "--node-rank", rank, "--master-addr", address, "--master-port", port)
		}
	case "accelerate":
		command = append(command, "-m", "accelerate.commands.launch", "--num_processes", all, "--num_machines", nnodes, "--machine_rank", rank,
			"--main_process_ip", address, "--main_process_port", port, "--mixed_precision", "no", "--dynamo_backend", "no")
		if !onGPU {
			command = append(command, "--cpu")
		} else if o.NProc*o.NNodes > 1 {
			command = append(command, "--multi_gpu")
		}
	}
	return append(command, e.script, configPath)
}

// process is a running trainer.
type process struct {
	scrub  *strings.Replacer
	log    io.Writer // what the libraries print, scrubbed
	handle func(event) error
	holds  *os.File // stays open, and with it its lock, as long as the trainer lives; nil for none
	tail   tail
}

// run starts the command, hands every event to handle, and waits. When ctx ends, it closes the trainer's standard
// input, at which the trainer saves a checkpoint and stops; if it takes too long it is killed. The trainer
// has a process group of its own, so that Ctrl-C on a terminal reaches this program only. The error is the one
// that the trainer reports, if it reports one.
func (p *process) run(ctx context.Context, command, env []string) error {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if p.holds != nil {
		cmd.ExtraFiles = []*os.File{p.holds}
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start trainer: %w", err)
	}
	kill := func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // it may be gone already
	var killer *time.Timer
	stop := sync.OnceFunc(func() {
		stdin.Close()
		killer = time.AfterFunc(stopGrace, kill)
	})
	release := context.AfterFunc(ctx, stop)
	var copied sync.WaitGroup
	copied.Go(func() { p.copyLog(stderr) })
	failed := p.follow(stdout, kill)
	copied.Wait()
	err = cmd.Wait()
	release()
	stop() // the timer is there now, whoever made it
	killer.Stop()
	kill() // children that outlived it
	switch {
	case failed != nil:
		return failed
	case err != nil && ctx.Err() == nil:
		return fmt.Errorf("trainer: %w: %s", err, p.tail.String())
	}
	return nil
}

// follow hands on the events. The first error of the trainer counts; one of handle ends it.
func (p *process) follow(stdout io.Reader, kill func()) error {
	var failed error
	lines := bufio.NewReader(stdout)
	for {
		line, err := lines.ReadBytes('\n')
		line = []byte(p.scrub.Replace(string(line)))
		if e, ok := parseEvent(line); !ok {
			p.write(line)
		} else if e.Event == "error" && failed == nil {
			failed = e.err()
		} else if failed == nil {
			if failed = p.handle(e); failed != nil {
				kill()
			}
		}
		if err != nil {
			if failed == nil && !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrClosed) {
				failed = fmt.Errorf("read trainer: %w", err)
			}
			return failed
		}
	}
}

// copyLog copies lines, so that a secret is never cut in two.
func (p *process) copyLog(stderr io.Reader) {
	lines := bufio.NewReader(stderr)
	for {
		line, err := lines.ReadBytes('\n')
		p.write([]byte(p.scrub.Replace(string(line))))
		if err != nil {
			return
		}
	}
}

func (p *process) write(line []byte) {
	p.tail.Write(line)
	_, _ = p.log.Write(line) // a full disk must not end the training; the checkpoint will say so
}

// tail keeps the last lines for an error message.
type tail struct {
	mu    sync.Mutex
	lines [][]byte
}

const tailLines = 8

func (t *tail) Write(line []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if line = bytes.TrimSpace(line); len(line) == 0 {
		return
	}
	if t.lines = append(t.lines, bytes.Clone(line)); len(t.lines) > tailLines {
		t.lines = t.lines[1:]
	}
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.Join(t.lines, []byte(" | ")))
}

// syncWriter lets two goroutines write to one file.
type syncWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (s *syncWriter) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(p)
}
