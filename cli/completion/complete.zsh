#compdef tracetorch
# Completion of tracetorch for zsh. Put this line into ~/.zshrc, below the one with compinit:
#     eval "$(tracetorch completion zsh)"

_tracetorch_completion() {
    local kind value remark program=${(Q)words[1]}
    local -a offered keys
    while IFS=$'\x1f' read -r kind value remark; do
        value=${value//:/\\:}  # a colon ends the value for _describe
        case $kind in
            word) offered+=("$value${remark:+:$remark}") ;;
            key) keys+=("$value${remark:+:$remark}") ;;
            folder)
                compset -p ${#remark}
                _path_files -/
                return
                ;;
        esac
    done < <(
        _TRACETORCH_COMPLETE=complete _TRACETORCH_COMPLETE_LINE="${words[1,CURRENT-1]} $IPREFIX$QIPREFIX$PREFIX" \
            "${program/#\~\//$HOME/}" 2>/dev/null
    )
    (( $#keys )) && _describe -t keys 'key' keys -S ''
    (( $#offered )) && _describe -t values 'value' offered
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _tracetorch_completion "$@"  # this file lies in a folder of $fpath, as _tracetorch
else
    compdef _tracetorch_completion tracetorch
fi
