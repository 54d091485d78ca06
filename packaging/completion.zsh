#compdef nopspan
# SPDX-License-Identifier: Apache-2.0
# zsh completion for nopspan: the commands, options and values that `nopspan [COMMAND] --help` lists.
local option=$words[CURRENT-1] command=${${words[2,CURRENT-1]:#-*}[1]} value MATCH
local -a rows match mbegin mend
local help=$'\n'$(_call_program help $words[1] $command --help 2>/dev/null)
if [[ $PREFIX == --*=* ]]; then
  option=${PREFIX%%=*}
  compset -P '*='
fi
[[ $option == -* && $help =~ $'\n  (-., )?'$option$' ([^ \n]+)' ]] && value=$match[2]
[[ -z $value && -n $command && $PREFIX != -* && $help =~ $'\nUsage: [^\n]*FILE' ]] && value=FILE
case $value in
  FILE*) _files ;;
  *\{*\}) compadd -- ${(s:,:)${${value#*\{}%\}}} ;;
  ?*) _message $value ;;
  *)
    rows=(${(f)"$(sed -nE '/^Commands:/,/^$/s/^  ([a-z]+) +/\1:/p' <<<$help)"})
    [[ -n $command ]] || _describe -t commands command rows
    rows=(${(f)"$(sed -nE 's/^  (-., )?(--[a-z-]+)( [^ ]+)? */\2:/p' <<<$help)"})
    [[ $PREFIX != -* ]] || _describe -o -t options option rows
    ;;
esac
