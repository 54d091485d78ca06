# SPDX-License-Identifier: Apache-2.0
# fish completion for nopspan: the commands, options and values that `nopspan [COMMAND] --help` lists.
function __nopspan_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l option (string match -- '-*' $words[-1])
    set -l prefix ''
    if set -l parts (string match -rg -- '^(--[^=]+)=(.*)' $current)
        set option $parts[1]
        set prefix $option=
        set current $parts[2]
    end
    set -l command (string match -v -- '-*' $words[2..-1])[1]
    set -l help (command $words[1] $command --help 2>/dev/null)
    set -l value ''
    test -n "$option"; and set value (string match -rg -- "^  (?:-., )?$option (\S+)" $help)
    if test -z "$value" -a -n "$command"; and not string match -q -- '-*' $current
        string match -qr -- '^Usage: .*FILE' $help; and set value FILE
    end
    switch "$value"
        case 'FILE*'
            __fish_complete_path $current | string replace -r '^' -- $prefix
        case '*{*}'
            string replace -r '.*\{(.*)\}' '$1' -- $value | string split , | string replace -r '^' -- $prefix
        case ''
            test -n "$command"; or string replace -rf '^  ([a-z]+)  +(.*)' '$1'\t'$2' -- $help
            string replace -rf '^  (?:-., )?(--[a-z-]+)(?: \S+)? *(.*)' '$1'\t'$2' -- $help
    end
end
complete -c nopspan -f -a '(__nopspan_complete)'
