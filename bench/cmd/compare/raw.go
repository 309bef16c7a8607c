package main

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// rawPrefix is the prefix of the line of a measurement.
const rawPrefix = "BenchmarkLoad/"

// writeRaw writes all as package testing does, round by round.
func (s samples) writeRaw(w io.Writer) {
	left := true
	for round := 0; left; round++ {
		left = false
		for _, who := range s.order {
			sm := s.of[who]
			if round >= len(sm.figures) {
				continue
			}
			left = true
			fmt.Fprintf(w, rawPrefix+"%s/impl=%s-%d\t%d", who.workload, who.impl, who.cpus, sm.n)
			for _, unit := range units() {
				if v, ok := sm.figures[round][unit]; ok {
					fmt.Fprintf(w, "\t%.6g %s", v, unit)
				}
			}
			fmt.Fprintln(w)
		}
	}
}

// readRaw reads what writeRaw wrote. It skips all other lines.
func readRaw(r io.Reader) (samples, error) {
	s := samples{of: map[subject]*sample{}}
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line, ok := strings.CutPrefix(lines.Text(), rawPrefix)
		if !ok {
			continue
		}
		if err := s.addRaw(line); err != nil {
			return samples{}, fmt.Errorf("line %d: %w", n, err)
		}
	}
	return s, lines.Err()
}

// addRaw adds a line without its prefix.
func (s *samples) addRaw(line string) error {
	fields := strings.Split(line, "\t")
	slash, dash := strings.LastIndex(fields[0], "/impl="), strings.LastIndex(fields[0], "-")
	if slash < 0 || dash < slash || len(fields) < 2 {
		return fmt.Errorf("%q is no measurement", line)
	}
	cpus, err := strconv.Atoi(fields[0][dash+1:])
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(fields[1])
	if err != nil {
		return err
	}
	figures := map[string]float64{}
	for _, field := range fields[2:] {
		value, unit, _ := strings.Cut(field, " ")
		if figures[unit], err = strconv.ParseFloat(value, 64); err != nil {
			return err
		}
	}
	who := subject{fields[0][:slash], fields[0][slash+len("/impl=") : dash], cpus}
	sm := s.of[who]
	if sm == nil {
		sm = &sample{n: n}
		s.of[who] = sm
		s.order = append(s.order, who)
	}
	sm.figures = append(sm.figures, figures)
	return nil
}
