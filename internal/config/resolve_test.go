package config

import "testing"

// A mistake hides no other one, and is not told a second time by what rests on
// it.
func TestEchoes(t *testing.T) {
	for _, row := range []struct{ name, text, want string }{
		{"a wrong verdict hides the reply's code, and nothing else", `
series:
  connections: {type: ip, interval: 5m, windows: 3, add: {at: connect}}
rules:
  - name: flood
    at: connect
    when: sender == "<>"
    if: {series: connections, windows: 0-9, above: 100}
    then: rejct
    reply: 450 4.7.1 Go away {recipient}
`, `f:7:11: rule "flood": sender is not known at connect; it is known at mail, rcpt, data, eoh, eom, rcpt_refused, accepted, refused, abort
f:8:40: rule "flood": the series has windows 0-2; 9 is beyond
f:9:11: rule "flood": unknown verdict "rejct"; did you mean reject?`},
		{"so does a misspelt then", `
series:
  connections: {type: ip, interval: 5m, windows: 3, add: {at: connect}}
rules:
  - name: flood
    at: connect
    if: {series: connections, windows: 0-9, above: 100}
    thne: reject
    reply: 450 4.7.1 Go away
`, `f:7:40: rule "flood": the series has windows 0-2; 9 is beyond
f:8:5: rule "flood": unknown key "thne"; did you mean then?`},
		{"misspelt lists hide their names", `
listss: {near: {cidr: []}}
rules:
  - {name: flood, at: mail, when: client_address in near, then: reject}
  - {name: local, at: mail, when: sendr == "", then: reject}
`, `f:2:1: unknown key "listss"; did you mean lists?
f:5:35: rule "local": when: unknown attribute "sendr"; did you mean sender?`},
		{"a list of a kind that is misspelt hides what fits it, in its file too", `
lists: {bulk: {strng: [a@example.com], file: echoes.txt}, near: {cidr: []}}
rules:
  - {name: bulk, at: mail, when: sender in bulk, then: reject}
  - {name: near, at: mail, when: sender in near, then: reject}
  - {name: far, at: mail, when: client_address in far, then: reject}
`, `f:2:16: list "bulk": unknown key "strng"; did you mean string?
f:5:34: rule "near": when: near is a list of networks; only an address, such as client_address, can be in it
f:6:51: rule "far": when: unknown list "far"; there is near`},
		{"a rule's name that is misspelt hides who names it", `
series: {refused: {type: ip, interval: 5m, windows: 3, add: {at: refused, when: rule == "flood"}}}
rules:
  - {nam: flood, at: connect, then: reject}
`, `f:4:6: rule 1: unknown key "nam"; did you mean name?`},
		{"a misspelt key of a rule hides nothing", `
series: {refused: {type: ip, interval: 5m, windows: 3, add: {at: refused, when: rule == "flod"}}}
rules:
  - {name: flood, at: connect, tehn: reject}
`, `f:2:89: series "refused": when: unknown rule "flod"; did you mean flood?
f:4:32: rule "flood": unknown key "tehn"; did you mean then?`},
		{"misspelt rules hide their names", `
series: {refused: {type: ip, interval: 5m, windows: 3, add: {at: refused, when: rule == "flood"}}}
rulse: [{name: flood, at: connect, then: reject}]
`, `f:3:1: unknown key "rulse"; did you mean rules?`},
		{"a wrong stage hides nothing", `
series:
  connections: {type: string, interval: 5m, windows: 3, add: {at: [conect, mail], key: recipient}}
rules:
  - name: flood
    at: conect
    if: {series: connections, windows: 0-9, mask: 24, above: 100}
    then: reject
    reply: 450 4.7.1 Go away
`, `f:3:68: series "connections": unknown stage "conect"; did you mean connect?
f:3:88: series "connections": recipient is not known at mail; it is known at rcpt, rcpt_refused, refused
f:6:9: rule "flood": unknown stage "conect"; did you mean connect?
f:7:40: rule "flood": the series has windows 0-2; 9 is beyond
f:7:51: rule "flood": series "connections" is of type string and has no masks
f:9:12: rule "flood": 450 contradicts then: reject; write a code such as 550, or leave the code out`},
		{"a wrong type hides what fits it: keys and masks", `
series:
  connections: {type: ipv4, interval: 5m, windows: 3, add: {at: connect, key: helo_name}}
  users: {type: txt, interval: 5m, windows: 3, add: {at: connect}}
rules:
  - name: flood
    at: connect
    if:
      - {series: connections, windows: 0-9, mask: 64, above: 100}
      - {series: connections, key: [client_address, client_port], mask: {ipv6: 64}, above: 100}
      - {series: users, windows: 0, sliding: true, above: 100}
    then: reject
    reply: 450 4.7.1 Go away from {network}
`, `f:3:23: series "connections": unknown type "ipv4"; there are cidr, cidr_ipv6, string, ip
f:4:17: series "users": unknown type "txt"; there are cidr, cidr_ipv6, string, ip
f:9:40: rule "flood": the series has windows 0-2; 9 is beyond
f:11:46: rule "flood": sliding weights the last window of a range that begins at 0, such as windows: 0-1, not 0
f:13:12: rule "flood": 450 contradicts then: reject; write a code such as 550, or leave the code out`},
		{"a wrong number of windows hides what is beyond it", `
series:
  connections: {type: ip, interval: 5m, windows: 0, add: {at: connect, key: [client_address, client_port]}}
rules:
  - name: flood
    at: connect
    if: {series: connections, windows: 0-9, sliding: true, mask: 24, above: 100}
    then: reject
`, `f:3:50: series "connections": windows must be 1 to 1024, not 0
f:3:77: series "connections" is of type ip, whose key is one address, client_address or server_address, not client_address|client_port; a series of type string takes any key
f:7:66: rule "flood": mask needs a number for each family, since series "connections" holds both; write {ipv4: 24, ipv6: 64}`},
		{"whether a series replicates is in doubt, so scope may be right", `
cluster: {valkey: {addresses: "valkey.example.com:6379"}}
series:
  connections: {type: ip, interval: 5m, windows: 3, replicate: all, add: {at: connect}}
rules:
  - name: flood
    at: connect
    if: {series: connections, scope: cluster, above: 1}
    then: reject
`, `f:4:64: series "connections": unknown way to replicate "all"; there are none, cluster, manager`},
		{"a series' name is told once, and its fields as well", `
series:
  a/b: {type: ip, interval: 5m, windows: 0, add: {at: connect, key: sender}}
`, `f:3:3: series "a/b": a series' name has no slash: "a/b"
f:3:42: series "a/b": windows must be 1 to 1024, not 0
f:3:69: series "a/b" is of type ip, whose key is one address, client_address or server_address, not sender; a series of type string takes any key`},
		{"what is missing is missing in each place", `
series:
  connections: {interval: 5m, add: {key: sender}}
rules:
  - at: mail
    if: {windows: 0-5}
`, `f:3:16: series "connections": type is missing; write for example type: ip
f:3:16: series "connections": windows is missing; write for example windows: 6
f:3:36: series "connections": at is missing; write for example at: connect
f:5:5: rule 1: name is missing; write for example name: connection-flood
f:5:5: rule 1: a rule needs then: accept, tempfail, reject, disconnect, discard, quarantine; or delay, header or notify
f:6:9: rule 1: series is missing; write for example series: connections
f:6:9: rule 1: the threshold is missing; write one of above, at_least, below, at_most, for example above: 100`},
		{"conditions that were not understood are not missed by the reply", `
series: {}
rules:
  - {name: a, at: connect, if: [], then: reject, reply: "{count}"}
  - {name: b, at: connect, fi: {series: x, above: 1}, then: reject, reply: "{count}"}
`, `f:4:32: rule "a": if is an empty list; leave it out, or give it a value
f:5:28: rule "b": unknown key "fi"; did you mean if?`},
		{"a header that cannot be there and is wrong has two mistakes", `
rules:
  - {name: a, at: connect, header: "X-A: {clint_address}"}
`, `f:3:36: rule "a": there is no message to put a header into at connect; it can be done from mail on
f:3:42: rule "a": unknown placeholder "clint_address"; did you mean client_address?`},
		{"a text may have several", `
series:
  connections: {type: ip, interval: 5m, windows: 3, add: {at: [accepted, abort], leaky: true}}
rules:
  - {name: a, at: connect, when: sender == recipient, then: reject, reply: "{sender} to {recipient}"}
`, `f:3:89: series "connections": leaky takes back what this filter refuses at the same stage; nothing is refused at accepted
f:3:89: series "connections": leaky takes back what this filter refuses at the same stage; nothing is refused at abort
f:5:34: rule "a": sender is not known at connect; it is known at mail, rcpt, data, eoh, eom, rcpt_refused, accepted, refused, abort
f:5:44: rule "a": recipient is not known at connect; it is known at rcpt, rcpt_refused, refused
f:5:76: rule "a": sender is not known at connect; it is known at mail, rcpt, data, eoh, eom, rcpt_refused, accepted, refused, abort
f:5:89: rule "a": recipient is not known at connect; it is known at rcpt, rcpt_refused, refused`},
		{"series that were not understood are not unknown", `
sereis:
  connections: {type: ip, interval: 5m, windows: 3, add: {at: connect}}
rules:
  - {name: a, at: connect, if: {series: connections, above: 1}, then: reject}
`, `f:2:1: unknown key "sereis"; did you mean series?`},
		{"nor are targets", `
notfy: {admin: {mail: postmaster@example.com}}
rules:
  - {name: a, at: connect, then: reject, notify: admin}
`, `f:2:1: unknown key "notfy"; did you mean notify?`},
		{"a broken target is there all the same", `
notify: {admin: {mail: postmaster}}
rules:
  - {name: a, at: connect, then: reject, notify: admin}
`, `f:2:24: notify "admin": mail is not a mail address: "postmaster"; write name@domain, in ASCII`},
		{"one that is missing among them is", `
series:
  connections: {type: ip, interval: 5m, windows: 3, add: {at: conect}}
rules:
  - {name: a, at: connect, if: {series: conections, above: 1}, then: reject}
`, `f:3:63: series "connections": unknown stage "conect"; did you mean connect?
f:5:41: rule "a": unknown series "conections"; did you mean connections?`},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := Parse("f", []byte(row.text))
			if err == nil || err.Error() != row.want {
				t.Errorf("got:\n%v\nwant:\n%s", err, row.want)
			}
		})
	}
}
